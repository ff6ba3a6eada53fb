import { MarkerReader } from './marker.ts'

/** What arrived of one device; ranges are inclusive. */
export interface DeviceArrivals {
  readonly device: number
  /** One more than the highest sequence that arrived. */
  readonly next: number
  readonly unique: number
  /** Sequences below `next` that never arrived. */
  readonly missing: readonly (readonly [number, number])[]
  /** [sequence, further arrivals after the first]. */
  readonly repeated: readonly (readonly [number, number])[]
  /** First arrivals that came after one with a higher sequence. */
  readonly inversions: number
}

/** What a record turned out to be. */
export type Arrival = 'first' | 'repeated' | 'foreign'

class DeviceRecord {
  next = 0
  unique = 0
  inversions = 0
  readonly repeated = new Map<number, number>()
  #bits = new Uint8Array(1024)

  /** False where this sequence had arrived before. */
  add(sequence: number): boolean {
    const at = sequence >>> 3
    const bit = 1 << (sequence & 7)
    if (at >= this.#bits.length) this.#grow(at)
    if ((this.#bits[at]! & bit) !== 0) {
      this.repeated.set(sequence, (this.repeated.get(sequence) ?? 0) + 1)
      return false
    }
    this.#bits[at]! |= bit
    this.unique++
    if (sequence < this.next) this.inversions++
    else this.next = sequence + 1
    return true
  }

  missing(): [number, number][] {
    const ranges: [number, number][] = []
    for (let sequence = 0; sequence < this.next; sequence++) {
      if ((sequence & 7) === 0 && this.#bits[sequence >>> 3] === 0xff) {
        sequence += 7
        continue
      }
      if ((this.#bits[sequence >>> 3]! & 1 << (sequence & 7)) !== 0) continue
      const last = ranges.at(-1)
      if (last !== undefined && last[1] === sequence - 1) last[1] = sequence
      else ranges.push([sequence, sequence])
    }
    return ranges
  }

  #grow(at: number): void {
    const larger = new Uint8Array(Math.max(at + 1, this.#bits.length * 2))
    larger.set(this.#bits)
    this.#bits = larger
  }
}

/** Every record that a reader got, by device and sequence: a bit each. */
export class Arrivals {
  unique = 0
  repeated = 0
  inversions = 0
  /** Records without a marker. */
  foreign = 0
  /** Marker of the record that `add` saw last. */
  readonly marker = new MarkerReader()
  readonly #devices = new Map<number, DeviceRecord>()

  add(payload: Buffer): Arrival {
    if (!this.marker.read(payload)) {
      this.foreign++
      return 'foreign'
    }
    let device = this.#devices.get(this.marker.device)
    if (device === undefined) {
      device = new DeviceRecord()
      this.#devices.set(this.marker.device, device)
    }
    const inversions = device.inversions
    if (!device.add(this.marker.sequence)) {
      this.repeated++
      return 'repeated'
    }
    this.unique++
    this.inversions += device.inversions - inversions
    return 'first'
  }

  devices(): DeviceArrivals[] {
    return [...this.#devices].map(([device, record]) => ({
      device, next: record.next, unique: record.unique, missing: record.missing(), repeated: [...record.repeated],
      inversions: record.inversions
    }))
  }
}
