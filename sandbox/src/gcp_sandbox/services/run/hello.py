"""The hello image: a server that says it runs; with --job, a task that says so and ends.

It is started by file name, without the package around it, and imports little: a container must start fast.
"""

import os
import signal
import socket
import sys
import threading

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Congratulations | Cloud Run</title></head>
<body>
<h1>It's running!</h1>
<p>Congratulations, you successfully deployed a container image to Cloud Run</p>
<p>Service: {service}<br>Revision: {revision}</p>
</body>
</html>
"""


def answer(client: socket.socket) -> None:
    """Answer the requests of one connection until it ends."""
    page = PAGE.format(service=os.environ.get("K_SERVICE", ""), revision=os.environ.get("K_REVISION", "")).encode()
    with client, client.makefile("rb") as stream:
        while line := stream.readline():
            length, close, chunked = 0, b"1.0" in line, False
            while (header := stream.readline().strip().lower()) != b"":
                name, _, value = header.partition(b":")
                if name == b"content-length":
                    length = int(value)
                close = close or (name == b"connection" and value.strip() == b"close")
                chunked = chunked or name == b"transfer-encoding"
            stream.read(length)
            while chunked and (size := int(stream.readline() or b"0", 16)):
                stream.read(size + 2)
            if chunked:
                stream.readline()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(page)}\r\n\r\n"
            client.sendall(head.encode() + (b"" if line.startswith(b"HEAD ") else page))
            if close:
                return


def main() -> None:
    """Serve on HOST:PORT until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if "--job" in sys.argv:
        index = os.environ.get("CLOUD_RUN_TASK_INDEX", "0")
        print(f"Starting Task #{index}, Attempt #{os.environ.get('CLOUD_RUN_TASK_ATTEMPT', '0')}...")
        if os.environ.get("FAIL_RATE", "0") not in ("0", "0.0", ""):
            sys.exit(f"Task #{index} failed.")
        print(f"Completed Task #{index}")
        return
    port = int(os.environ.get("PORT", "8080"))
    with socket.create_server((os.environ.get("HOST", "0.0.0.0"), port), backlog=128) as server:
        print(
            "Hello from Cloud Run! The container started successfully and is listening for HTTP requests on",
            port,
            flush=True,
        )
        while True:
            client, _ = server.accept()
            threading.Thread(target=answer, args=(client,), daemon=True).start()


if __name__ == "__main__":
    main()
