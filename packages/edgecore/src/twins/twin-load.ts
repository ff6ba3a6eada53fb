import { writeSynced } from '@holdfast/store'
import type { Store, WriteOp } from '@holdfast/store'
import type { DeviceId } from './device-twins.ts'
import { twinsLimits } from './limits.ts'
import { decodeStoredTwin, idOfTwinKey, twinRange, waitingKey } from './twin-format.ts'
import type { StoredTwin } from './twin-format.ts'

export interface StoredTwins {
  readonly twins: ReadonlyMap<DeviceId, StoredTwin>
  /** Twins without a Device wait for the cloud to say what there is. */
  readonly areWaiting: boolean
  /** Keys of entries that are not what they should be. */
  readonly damaged: readonly Buffer[]
}

/** All twins on disk. Throws `TWINS_NEWER`, or the store's errors. */
export async function readTwins(store: Store): Promise<StoredTwins> {
  const twins = new Map<DeviceId, StoredTwin>()
  const damaged: Buffer[] = []
  let areWaiting = false
  let { gte } = twinRange
  for (;;) {
    const page = await store.scan({ gte, lt: twinRange.lt, bytesMax: twinsLimits.loadPageBytes.value })
    if (page.length === 0) return { twins, areWaiting, damaged }
    for (const { key, value } of page) {
      if (waitingKey.equals(key)) {
        areWaiting = true
        continue
      }
      const id = idOfTwinKey(key)
      const twin = decodeStoredTwin(key, value)
      if (id === undefined || twin === undefined) damaged.push(key)
      else twins.set(id, twin)
    }
    gte = Buffer.concat([page.at(-1)!.key, Buffer.from([0])])
  }
}

const writeBytes = 1024 * 1024

/** Writes everything, in steps of about 1 MiB; each is worth something without the next. */
export async function writeInSteps(store: Store, ops: readonly WriteOp[]): Promise<void> {
  let [from, bytes] = [0, 0]
  for (const [i, op] of ops.entries()) {
    bytes += op.key.length + (op.type === 'put' ? op.value.length : 0)
    if (bytes < writeBytes && i < ops.length - 1) continue
    await writeSynced(store, ops.slice(from, i + 1))
    from = i + 1
    bytes = 0
  }
}
