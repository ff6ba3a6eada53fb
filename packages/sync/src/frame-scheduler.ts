/**
 * Shares one link between classes by weight: the class that has had the least, for its weight, goes next (start-time fair
 * queueing). Every class with something to send keeps at least its weight's share; one that was idle gets no credit for
 * it. Session control does not come here: it is sent at once.
 */
export class FrameScheduler<Class> {
  readonly #classes = new Map<Class, { readonly weight: number, finish: number }>()
  #now = 0

  setClass(id: Class, weight: number): void { this.#classes.set(id, { weight, finish: 0 }) }

  /** Which of the classes that have something to send is next; undefined where there is none. */
  next(ready: Iterable<Class>): Class | undefined {
    let best: Class | undefined
    let bestStart = Infinity
    for (const id of ready) {
      const start = Math.max(this.#now, this.#classes.get(id)!.finish)
      // Equal starts: the heavier class first, so that an alarm does not wait for a bulk frame.
      if (start < bestStart || (start === bestStart && this.#classes.get(id)!.weight > this.#classes.get(best!)!.weight)) {
        best = id
        bestStart = start
      }
    }
    return best
  }

  /** `bytes` of a class were sent. */
  sent(id: Class, bytes: number): void {
    const entry = this.#classes.get(id)!
    const start = Math.max(this.#now, entry.finish)
    this.#now = start
    entry.finish = start + bytes / entry.weight
  }
}
