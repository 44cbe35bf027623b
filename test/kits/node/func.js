// The tests' function, made with @fnproject/fdk.
const fdk = require('@fnproject/fdk')

fdk.handle(async (order, ctx) => {
  const o = order || {}
  if (o.print) console.error(o.print)
  if (o.sleep) await new Promise(resolve => setTimeout(resolve, o.sleep))
  if (o.fail) throw new Error('it was told to fail')
  const http = ctx.httpGateway
  if (o.status) http.statusCode = o.status
  http.setResponseHeader('X-Answer', 'yes')
  return {
    text: o.text || '', call: ctx.callID, app: ctx.appName, function: ctx.fnName,
    config: process.env.OWN || '', field: http.getHeader('X-Own') || '', type: ctx.contentType,
    method: http.method, url: http.requestURL
  }
})
