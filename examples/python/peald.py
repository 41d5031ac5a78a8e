#!/usr/bin/python3
"""Calls peald's control plane from Python.

  PEALCTL_ADDR   the daemon's grpc.addr (127.0.0.1:9090)
  PEALCTL_TOKEN  a token from control.tokens, if the daemon has any

Usage: peald.py [USER]

Requires grpcio and grpcio-tools: on Debian the packages python3-grpcio,
python3-grpc-tools and python3-protobuf. A backend would generate the stubs at
build time; this example generates them at each start, into a temporary
directory.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import grpc

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"


def stubs():
    """Generates and imports the modules of the messages and of the service."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTO}", f"--python_out={folder}",
             f"--grpc_python_out={folder}", "peal/v1/control.proto"],
            check=True,
        )
        sys.path.insert(0, folder)
        from peal.v1 import control_pb2, control_pb2_grpc

        return control_pb2, control_pb2_grpc


def main(user="alice"):
    messages, services = stubs()
    token = os.environ.get("PEALCTL_TOKEN")
    options = {
        "timeout": 10,
        "metadata": [("authorization", f"Bearer {token}")] if token else [],
    }

    with grpc.insecure_channel(os.environ.get("PEALCTL_ADDR", "127.0.0.1:9090")) as channel:
        control = services.ControlServiceStub(channel)

        request = messages.CreateTokenRequest(user_id=user)
        request.ttl.FromSeconds(3600)
        reply = control.CreateToken(request, **options)
        print(f"Subscriber token for {user}: {reply.token}")

        reply = control.Broadcast(messages.BroadcastRequest(data="Hello, everyone,\nfrom Python ☀"), **options)
        print(f"To everyone: event {reply.id}, queued to {reply.recipients} streams")

        reply = control.SendToUser(
            messages.SendToUserRequest(user_id=user, data="Hello from Python, just for you", event="greeting"),
            **options,
        )
        print(f"To {user}: event {reply.id}, queued to {reply.recipients} streams")

        for connected in control.ListUsers(messages.ListUsersRequest(page_size=10), **options).users:
            since = connected.connected_since.ToJsonString()
            print(f"Connected: {connected.user_id} with {connected.connections} streams since {since}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:2])
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
