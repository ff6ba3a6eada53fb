import type { MessageTaker } from '../messages.ts'
import { FilterTrie } from './filter-trie.ts'

/** Parts of the daemon that take messages, by their filters; and which retained messages are still to be given to them. */
export class Takers {
  readonly #filters = new FilterTrie<MessageTaker>()
  /** How many filters each has. */
  readonly #counts = new Map<MessageTaker, number>()
  #added = 0
  #version = 0
  /** Topics of retained messages that could not be taken when they were due. */
  readonly waiting = new Map<MessageTaker, Set<string>>()

  /** Changes whenever `match` may answer differently. */
  get version(): number { return this.#version }

  all(): Iterable<MessageTaker> { return this.#counts.keys() }

  /** Returns how to take it away again. */
  add(filter: string, taker: MessageTaker): () => void {
    const key = String(this.#added++)
    this.#filters.add(filter, key, taker)
    this.#counts.set(taker, (this.#counts.get(taker) ?? 0) + 1)
    this.#version++
    let stopped = false
    return () => {
      if (stopped) return
      stopped = true
      this.#filters.remove(filter, key)
      this.#version++
      const left = this.#counts.get(taker)! - 1
      if (left > 0) this.#counts.set(taker, left)
      else {
        this.#counts.delete(taker)
        this.waiting.delete(taker)
      }
    }
  }

  /** Each once, whatever number of its filters match. */
  match(topic: string): readonly MessageTaker[] { return [...new Set(this.#filters.match(topic))] }

  giveLater(taker: MessageTaker, topic: string): void {
    const topics = this.waiting.get(taker)
    if (topics === undefined) this.waiting.set(taker, new Set([topic]))
    else topics.add(topic)
  }

  /** A newer message of the topic was taken: the retained one has been overtaken. */
  given(topic: string): void {
    for (const [taker, topics] of this.waiting) if (topics.delete(topic) && topics.size === 0) this.waiting.delete(taker)
  }

  /** `give` answers false where it is still too early; the others wait on then. */
  giveWaiting(give: (taker: MessageTaker, topic: string) => boolean): void {
    for (const [taker, topics] of this.waiting) {
      for (const topic of topics) {
        if (!give(taker, topic)) return
        topics.delete(topic)
      }
      this.waiting.delete(taker)
    }
  }
}
