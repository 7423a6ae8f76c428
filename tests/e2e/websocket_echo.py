"""aiohttp through the gateway: echoes of many sizes, then the gateway's close.

Arguments: the URL; header fields as JSON; the path of a file to write once all echoes have come.
"""

import asyncio
import json
import os
import sys

import aiohttp
from yarl import URL


async def main(url, headers, told):
    async with aiohttp.ClientSession() as session:
        # The bytes of the URL are signed: they are not to be written anew.
        async with session.ws_connect(URL(url, encoded=True), headers=headers, max_msg_size=0) as socket:
            for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20]:
                sent = os.urandom(size)
                await socket.send_bytes(sent)
                assert await socket.receive_bytes() == sent, size
            await socket.send_str("text as well")
            assert await socket.receive_str() == "text as well"
            with open(told, "w") as file:
                file.write("echoed")
            message = await socket.receive()
            assert message.type == aiohttp.WSMsgType.CLOSE, message
            print(message.data)


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]))
