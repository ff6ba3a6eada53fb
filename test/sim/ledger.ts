import { createHash } from 'node:crypto'
import type { OutboxLane } from '@holdfast/store'
import { SeededRandom } from '@holdfast/runtime'
import type { Edge, LaneGeneration } from './edge.ts'
import type { World } from './world.ts'

/** One append of one record: what a sender repeats is another attempt. */
export interface Attempt {
  readonly id: number
  readonly device: string
  readonly lane: string
  readonly edge: Edge
  readonly seq: number
  readonly bytes: number
  acknowledged: boolean
  /** Known once the commit was reported durable. */
  offset: number | undefined
  /** Set where the simulation destroyed the only copy without a trace. */
  excused: string | undefined
}

const filler = Buffer.from(new SeededRandom(7).bytes(128 * 1024))
const numberBytes = 12

/** The truth about what was sent, acknowledged and destroyed. */
export class Ledger {
  readonly attempts: Attempt[] = []
  readonly #world: World

  constructor(world: World) { this.#world = world }

  attempt(device: string, lane: string, edge: Edge, seq: number, bytes: number): { attempt: number, payload: Buffer } {
    const id = this.attempts.length
    const length = Math.max(numberBytes, bytes)
    this.attempts.push({ id, device, lane, edge, seq, bytes: length, acknowledged: false, offset: undefined,
      excused: undefined })
    return { attempt: id, payload: payloadOf(id, seq, length) }
  }

  /** The lane's own line of offsets, counted apart from the outbox: dense, in the order of the appends. */
  appended(id: number, generation: LaneGeneration): void { generation.order.push(id) }

  offset(id: number, edge: Edge, lane: OutboxLane, generation: LaneGeneration): void {
    const head = generation.order.shift()
    this.#world.expect(head === id, () => `${edge.name}/${lane.name}: attempt ${id} is durable before ${head}`)
    const offset = generation.next++
    this.attempts[id]!.offset = offset
    this.#world.expect(offset < lane.durable, () =>
      `${edge.name}/${lane.name}: offset ${offset} was reported durable, the lane says ${lane.durable}`)
  }

  acknowledge(id: number): void { this.attempts[id]!.acknowledged = true }

  /** The attempt that a stored payload is; fails where its bytes are not those that were sent. */
  identify(payload: Buffer, device: string): Attempt {
    const id = payload.length < numberBytes ? -1 : payload.readUInt32BE(0)
    const attempt = this.attempts[id]
    this.#world.expect(attempt !== undefined && attempt.device === device && payload.equals(payloadOf(id, attempt.seq,
      attempt.bytes)),
      () => `wrong data: ${payload.length} bytes of ${device}, attempt ${id}, ` +
        `known as ${attempt?.device} ${attempt?.bytes}`)
    return attempt!
  }

  /** What happened, in one number, to compare two runs of a seed. */
  digest(): string {
    const hash = createHash('sha256')
    for (const { device, seq, bytes, acknowledged,
      offset } of this.attempts) hash.update(`${device} ${seq} ${bytes} ${acknowledged} ${offset}\n`)
    return hash.digest('hex').slice(0, 16)
  }
}

function payloadOf(id: number, seq: number, length: number): Buffer {
  const payload = Buffer.allocUnsafe(length)
  payload.writeUInt32BE(id, 0)
  payload.writeUInt32BE(seq, 4)
  payload.writeUInt32BE(length, 8)
  const from = (id * 7919) % (filler.length / 2)
  // Even attempts do not compress, odd ones do.
  if (id % 2 === 0) filler.copy(payload, numberBytes, from, from + length - numberBytes)
  else payload.fill(0x20 + id % 64, numberBytes)
  return payload
}
