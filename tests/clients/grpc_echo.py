# A unary gRPC call over a TLS channel; messages are plain bytes, so no generated code is needed.
import sys
import grpc

channel = grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials())
call = channel.unary_unary("/echo.Echo/Unary")
answer, call = call.with_call(b"hello grpc", timeout=20)
print(answer.decode(), call.code().name)
channel.close()
