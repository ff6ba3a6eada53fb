import type { MessageBus, MessageTaker, OutgoingMessage } from '../../messages.ts'

/** A bus that keeps what is published. */
export class RecordingBus implements MessageBus {
  readonly filters = new Set<string>()
  readonly #published: OutgoingMessage[] = []

  listen(filter: string, _taker: MessageTaker): () => void {
    this.filters.add(filter)
    return () => { this.filters.delete(filter) }
  }

  publish(message: OutgoingMessage): void { this.#published.push(message) }

  /** What was published since, and no more after. */
  taken(): { readonly topic: string, readonly body: Record<string, unknown> }[] {
    return this.#published.splice(0)
      .map(({ topic, payload }) => ({ topic, body: JSON.parse(payload.toString()) as Record<string, unknown> }))
  }
}
