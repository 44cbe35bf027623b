"""The tests' function, made with fdk."""

import asyncio
import io
import json
import logging
import os

from fdk import response


async def handler(ctx, data: io.BytesIO = None):
    body = data.getvalue()
    order = json.loads(body) if body else {}
    if "print" in order:
        logging.getLogger().error(order["print"])
    await asyncio.sleep(order.get("sleep", 0) / 1000)
    if order.get("fail"):
        raise ValueError("it was told to fail")
    answer = {
        "text": order.get("text", ""), "call": ctx.CallID(), "app": ctx.AppName(), "function": ctx.FnName(),
        "config": os.environ.get("OWN", ""), "field": ctx.HTTPHeaders().get("x-own", ""),
        "type": ctx.Headers().get("content-type", ""), "method": ctx.Method(), "url": ctx.RequestURL(),
    }
    return response.Response(
        ctx, response_data=json.dumps(answer), status_code=order.get("status", 200),
        headers={"Content-Type": "application/json", "X-Answer": "yes"},
    )
