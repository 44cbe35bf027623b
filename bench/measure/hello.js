const body = "x".repeat(200);
require("http")
  .createServer((_, answer) => answer.setHeader("Content-Length", body.length).end(body))
  .listen(Number(process.env.PORT));
