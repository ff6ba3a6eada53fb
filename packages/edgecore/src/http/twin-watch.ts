import type { Clock } from '@holdfast/runtime'
import type { DeviceId, DeviceTwins } from '../twins/device-twins.ts'
import { twinChange, twinDocument } from './twin-documents.ts'

export interface TwinWatchOptions {
  /** A comment goes out after so much silence, milliseconds. */
  readonly heartbeatMs: number
}

export interface TwinWatchComponents {
  readonly twins: Pick<DeviceTwins, 'get' | 'subscribe'>
  readonly clock: Clock
}

/**
 * Server-sent events of one device (WHATWG HTML, server-sent events): `twin`, the whole one, first and whenever more than
 * values changed; `change`, what is different since; `deleted`, after which it ends. Ends when `signal` aborts.
 *
 * What happens while the reader takes nothing is not queued: the next event is the difference between what it was sent last and
 * what is now. So it holds one event at a time, and a reader sees the newest, not everything in between.
 */
export async function* twinEvents(
  id: DeviceId, { heartbeatMs }: TwinWatchOptions, { twins, clock }: TwinWatchComponents, signal: AbortSignal
): AsyncGenerator<string> {
  let due: 'nothing' | 'change' | 'whole' = 'whole'
  let wake = (): void => {}
  const stop = twins.subscribe(change => {
    if (change.id !== id) return
    if (change.specChanged || change.before?.uid !== change.after?.uid) due = 'whole'
    else if (due === 'nothing') due = 'change'
    wake()
  })
  const abort = (): void => wake()
  signal.addEventListener('abort', abort)
  try {
    let shown = twins.get(id)
    while (!signal.aborted) {
      if (due === 'nothing') {
        const woken = await new Promise<boolean>(resolve => {
          const heartbeat = clock.after(heartbeatMs, () => resolve(false))
          wake = () => {
            heartbeat.cancel()
            resolve(true)
          }
        })
        wake = () => {}
        if (!woken) yield ':\n\n'
        continue
      }
      const whole = due === 'whole'
      due = 'nothing'
      const held = twins.get(id)
      if (held === undefined) {
        yield event('deleted', { device: id })
        return
      }
      const change = whole || shown === undefined ? twinDocument(held) : twinChange(shown, held)
      shown = held
      if (change !== undefined) yield event(whole ? 'twin' : 'change', change)
    }
  } finally {
    signal.removeEventListener('abort', abort)
    stop()
  }
}

const event = (name: string, data: object): string => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`
