import type { Commit } from '@holdfast/store'
import { Takers } from '../../broker/takers.ts'
import type { MessageBus, MessageTaker, OutgoingMessage } from '../../messages.ts'

/** A message bus without a broker: tests say what devices publish, and read what they would get. */
export class MemoryBus implements MessageBus {
  readonly published: { readonly topic: string, readonly payload: string }[] = []
  readonly #takers = new Takers()
  readonly #retained = new Map<string, Buffer>()

  /** Takers now. */
  get takers(): number { return [...this.#takers.all()].length }

  listen(filter: string, taker: MessageTaker): () => void {
    const stop = this.#takers.add(filter, taker)
    for (const [topic, payload] of this.#retained) if (this.#takers.match(topic).includes(taker)) taker.take(topic, payload)
    return stop
  }

  publish({ topic, payload }: OutgoingMessage): void { this.published.push({ topic, payload: payload.toString() }) }

  /** A device publishes. Returns what its acknowledgement waits for. */
  deliver(topic: string, payload: string, { retain = false } = {}): Commit[] {
    const bytes = Buffer.from(payload)
    if (retain) this.#retained.set(topic, bytes)
    return this.#takers.match(topic).flatMap(taker => taker.take(topic, bytes) ?? [])
  }

  /** A device subscribes. Returns what it is told. */
  subscribe(filter: string): { readonly topic: string, readonly payload: string }[] {
    const told: { topic: string, payload: string }[] = []
    for (const taker of this.#takers.all()) {
      taker.subscribed?.(filter, ({ topic, payload }) => told.push({ topic, payload: payload.toString() }))
    }
    return told
  }
}
