# echo 4|6 TOKEN: send back what comes in with TOKEN in front, by UDP and over one TCP connection.
import _socket  # what socket is built on, which imports enum and selectors: slow under emulation

from __main__ import background, commands


def udp_echo(server, token):
    while True:
        data, peer = server.recvfrom(2048)
        if data.startswith(token):
            server.sendto(data, peer)


def tcp_echo(server, token):
    while True:
        descriptor = server._accept()[0]  # all that _socket has
        peer = _socket.socket(server.family, server.type, 0, descriptor)
        peer.settimeout(5)
        try:
            given = b""
            while len(given) < len(token):
                more = peer.recv(len(token) - len(given))
                if not more:
                    break
                given += more
            if given == token:
                break
        except OSError:
            pass
        peer.close()
    server.close()  # no second client
    peer.settimeout(None)
    peer.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    try:
        while True:
            data = peer.recv(65536)
            if not data:
                break
            peer.sendall(data)
    except OSError:
        pass
    peer.close()


def echo(version, token):
    family = _socket.AF_INET6 if version == "6" else _socket.AF_INET
    ports = []
    for kind, work in ((_socket.SOCK_DGRAM, udp_echo), (_socket.SOCK_STREAM, tcp_echo)):
        server = _socket.socket(family, kind)
        server.bind(("", 0))
        if kind == _socket.SOCK_STREAM:
            server.listen(1)
        ports.append(str(server.getsockname()[1]))
        background(work, server, token.encode())
    return " ".join(ports)


commands["echo"] = echo
