import { toBinary, fromBinary } from '@bufbuild/protobuf'
import type { DescMethodUnary, DescMessage, MessageShape } from '@bufbuild/protobuf'
import { Client, connectivityState, credentials, status } from '@grpc/grpc-js'
import type { ServiceError } from '@grpc/grpc-js'
import type { Clock } from '@holdfast/runtime'
import { dmiLimits as limits } from './limits.ts'

/** How a call failed, as far as what comes next depends on it. */
export interface CallFailure {
  /**
   * `unanswered`: whether the mapper did it is not known (it hung, or its connection broke); `refused`: it says no; `exists`
   * and `not-found`: it has it already, or has no such thing.
   */
  readonly kind: 'unanswered' | 'refused' | 'exists' | 'not-found'
  /** With the status's name, such as `INVALID_ARGUMENT: no such register`. */
  readonly reason: string
}

/** One connection with a mapper. What the mapper holds is known only for as long as it stands. */
export interface MapperConnection {
  /** Resolves with the failure, or undefined where the mapper answered OK. Never rejects. */
  call<Input extends DescMessage, Output extends DescMessage>(
    method: DescMethodUnary<Input, Output>, message: MessageShape<Input>
  ): Promise<CallFailure | undefined>
  /** Resolves when the connection has ended, by whichever side. */
  readonly closed: Promise<void>
  close(): void
}

/** Resolves when the mapper answers in HTTP/2; rejects where it does not. */
export type DialMapper = (address: string) => Promise<MapperConnection>

/** Ends idle connections after so long: never. */
const never = 2 ** 31 - 1

export function mapperDialer(
  { callTimeoutMs }: { readonly callTimeoutMs: number }, { clock }: { readonly clock: Clock }
): DialMapper {
  return async address => {
    const client = new Client(`unix:${address}`, credentials.createInsecure(), {
      // A connection of its own, which ends with `close`.
      'grpc.use_local_subchannel_pool': 1,
      'grpc.client_idle_timeout_ms': never,
      'grpc.enable_retries': 0,
      'grpc.enable_http_proxy': 0,
      'grpc.max_receive_message_length': limits.messageBytes.value
    })
    const channel = client.getChannel()
    const stateAfter = (state: connectivityState, withinMs: number): Promise<connectivityState> => new Promise(resolve => {
      channel.watchConnectivityState(state, clock.wallMs() + withinMs, () => resolve(channel.getConnectivityState(false)))
    })
    const deadlineMs = clock.monotonicMs() + limits.connectTimeoutMs.value
    for (let state = channel.getConnectivityState(true); state !== connectivityState.READY;) {
      const leftMs = deadlineMs - clock.monotonicMs()
      if (state === connectivityState.TRANSIENT_FAILURE || leftMs <= 0) {
        client.close()
        throw new Error(leftMs > 0
          ? `nobody listens at ${address}`
          : `nothing answered at ${address} in ${limits.connectTimeoutMs.value} ms`)
      }
      state = await stateAfter(state, leftMs)
    }
    const closed = stateAfter(connectivityState.READY, Infinity).then(() => { client.close() })
    return {
      closed,
      close: () => { client.close() },
      call: (method, message) => new Promise(resolve => {
        client.makeUnaryRequest(
          `/${method.parent.typeName}/${method.name}`,
          input => Buffer.from(toBinary(method.input, input)), bytes => fromBinary(method.output, bytes),
          message, { deadline: clock.wallMs() + callTimeoutMs },
          error => { resolve(error === null ? undefined : failureOf(error, callTimeoutMs)) }
        )
      })
    }
  }
}

function failureOf({ code, details }: ServiceError, callTimeoutMs: number): CallFailure {
  // The library's own words for a deadline have the time to the millisecond: another text each time.
  const what = code === status.DEADLINE_EXCEEDED ? `no answer within ${callTimeoutMs} ms` : details
  const reason = `${status[code]}: ${what}`.slice(0, 512)
  switch (code) {
    case status.UNAVAILABLE:
    case status.DEADLINE_EXCEEDED:
    case status.CANCELLED: return { kind: 'unanswered', reason }
    case status.ALREADY_EXISTS: return { kind: 'exists', reason }
    case status.NOT_FOUND: return { kind: 'not-found', reason }
    default: return { kind: 'refused', reason }
  }
}
