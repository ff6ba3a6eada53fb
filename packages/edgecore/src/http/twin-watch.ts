import type { Clock } from '@holdfast/runtime'
import type { DeviceId, DeviceTwin, DeviceTwins } from '../twins/device-twins.ts'
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
 * Server-sent events of one device (WHATWG HTML, server-sent events): `twin`, the whole one, first and where another device takes
 * the name; `change`, what is different since; `deleted`, after which it ends. Ends when `signal` aborts.
 *
 * What happens while the reader takes nothing is not queued: the next event is the difference between what it was sent last and
 * what is now. So it holds one event at a time, and a reader sees the newest, not everything in between.
 */
export async function* twinEvents(
  id: DeviceId, { heartbeatMs }: TwinWatchOptions, { twins, clock }: TwinWatchComponents, signal: AbortSignal
): AsyncGenerator<string> {
  let isDue = true
  let wake = (): void => {}
  const stop = twins.subscribe(change => {
    if (change.id !== id) return
    isDue = true
    wake()
  })
  const abort = (): void => wake()
  signal.addEventListener('abort', abort)
  try {
    let shown: DeviceTwin | undefined
    while (!signal.aborted) {
      if (!isDue) {
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
      isDue = false
      const held = twins.get(id)
      if (held === undefined) {
        yield event('deleted', { device: id })
        return
      }
      const before = shown
      shown = held
      if (before?.uid !== held.uid) {
        yield event('twin', twinDocument(held))
        continue
      }
      const change = twinChange(before, held)
      if (change !== undefined) yield event('change', change)
    }
  } finally {
    signal.removeEventListener('abort', abort)
    stop()
  }
}

const event = (name: string, data: object): string => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`
