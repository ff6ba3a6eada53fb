import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import type { DescMessage, DescMethodUnary, DescService, MessageInitShape, MessageShape } from '@bufbuild/protobuf'
import type { ServiceDefinition, UntypedHandleCall, handleUnaryCall, ServerUnaryCall } from '@grpc/grpc-js'

/** A gRPC status other than OK, for the caller. */
export interface StatusReply {
  readonly code: number
  readonly details: string
}

/** Our descriptors as grpc-js wants a service described. */
export function serviceDefinition(service: DescService): ServiceDefinition {
  return Object.fromEntries(service.methods.map(({ name, input, output }) => [name, {
    path: `/${service.typeName}/${name}`,
    requestStream: false,
    responseStream: false,
    requestSerialize: (message: MessageShape<DescMessage>) => Buffer.from(toBinary(input, message)),
    requestDeserialize: (bytes: Buffer) => fromBinary(input, bytes),
    responseSerialize: (message: MessageShape<DescMessage>) => Buffer.from(toBinary(output, message)),
    responseDeserialize: (bytes: Buffer) => fromBinary(output, bytes)
  }]))
}

/** A handler for grpc-js of one that answers or throws; what it throws becomes `statusOf`. */
export function unaryHandler<Input extends DescMessage, Output extends DescMessage>(
  method: DescMethodUnary<Input, Output>,
  handle: (request: MessageShape<Input>) => Promise<MessageInitShape<Output>>,
  statusOf: (error: unknown) => StatusReply
): UntypedHandleCall {
  const handler: handleUnaryCall<MessageShape<Input>, MessageShape<Output>> = (
    { request }: ServerUnaryCall<MessageShape<Input>, MessageShape<Output>>, reply
  ) => {
    handle(request).then(answer => reply(null, create(method.output, answer)), (error: unknown) => reply(statusOf(error)))
  }
  return handler
}
