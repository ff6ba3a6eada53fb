import { decodeFrame, encodeFrame } from '@holdfast/protos'
import type { StateFrame } from '@holdfast/protos'
import { StateReader, StateWriter, contentVersion, newStateStats, stateDigest } from '@holdfast/sync'
import type { StateBatch, StateSource, StateTarget } from '@holdfast/sync'
import { downCollections } from '../view-collections.ts'

/** What a node holds, in memory; a batch is applied at once. */
export class MemoryNode implements StateTarget {
  readonly collections: readonly string[] = downCollections
  readonly held = new Map<string, Map<string, Buffer>>(downCollections.map(name => [name, new Map()]))
  readonly positions = new Map<string, string>()
  readonly batches: StateBatch[] = []

  position(collection: string): string { return this.positions.get(collection) ?? '' }
  digest(collection: string): Buffer { return stateDigest(this.keysFrom(collection, '')) }
  keysFrom(collection: string, after: string): (readonly [string, Buffer])[] {
    return [...this.held.get(collection)!].filter(([key]) => key > after).toSorted(([a], [b]) => a < b ? -1 : 1)
      .map(([key, value]) => [key, contentVersion(value)] as const)
  }

  apply(batch: StateBatch, onApplied: (error?: Error) => void): void {
    const items = this.held.get(batch.collection)!
    for (const { key, value } of batch.puts) items.set(key, Buffer.from(value))
    for (const key of batch.deletes) items.delete(key)
    this.positions.set(batch.collection, batch.position)
    this.batches.push(batch)
    onApplied()
  }

  /** All of it, as `collection key` and text. */
  show(): Record<string, string> {
    return Object.fromEntries([...this.held].flatMap(([collection, items]) =>
      [...items].map(([key, value]) => [`${collection} ${key}`, value.toString()] as const)).toSorted(([a], [b]) => a < b ? -1 : 1))
  }
}

/** A session of a node with what goes down to it. */
export class MemorySession {
  readonly writer: StateWriter
  readonly reader: StateReader
  readonly stats = newStateStats()
  readonly told: string[] = []
  readonly #down: Buffer[] = []
  readonly #up: Buffer[] = []
  #nowMs = 0

  constructor(source: StateSource, node: MemoryNode) {
    this.writer = new StateWriter(source, { onReady: () => {}, onWithheld: message => { this.told.push(message) }, stats: this.stats })
    this.reader = new StateReader(node, { onReady: () => {}, onFailed: message => { this.told.push(message) }, stats: newStateStats() })
    this.writer.told(this.reader.takeDigests())
    this.reader.verdicts(this.writer.takeVerdicts())
  }

  /** So many frames arrive; all of them unless told otherwise. */
  run(framesMax = Infinity): void {
    for (let left = framesMax; left > 0; left--) {
      this.#send()
      const down = this.#down.shift()
      if (down !== undefined) this.#arrive(down)
      else {
        const up = this.#up.shift()
        if (up === undefined) return
        this.#arrive(up)
      }
    }
  }

  close(): void {
    this.writer.close()
    this.reader.close()
  }

  #send(): void {
    for (let output = this.writer.next(this.#nowMs); output !== undefined; output = this.writer.next(this.#nowMs)) {
      this.#down.push(encodeFrame(output.frame))
    }
    for (let frame = this.reader.next(); frame !== undefined; frame = this.reader.next()) this.#up.push(encodeFrame(frame))
  }

  #arrive(bytes: Buffer): void {
    this.#nowMs++
    const frame = decodeFrame(bytes) as StateFrame
    switch (frame.kind) {
      case 'state-verdict': return this.reader.verdicts(frame.verdicts)
      case 'state-changes': return this.reader.receive(frame)
      case 'state-digest': return this.writer.told(frame.digests)
      case 'state-inventory': return this.writer.inventory(frame)
      case 'state-ack': return this.writer.acknowledged(frame, this.#nowMs)
    }
  }
}
