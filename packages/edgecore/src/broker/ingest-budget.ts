/** A stream that stopped reading because the budget was used up. */
export interface BudgetWaiter { resume(): void }

/** What one read brings at most; how far the bound may be passed by each stream that goes on. */
const readBytes = 64 * 1024

/** Bytes of publishes that wait for their commit, over all clients; who has to wait goes on first come, first served. */
export class IngestBudget {
  readonly bytesMax: number
  /** Handed to aedes and not yet acknowledged. */
  bytes = 0
  /** Of packets that have not arrived completely. */
  incompleteBytes = 0
  #waiters: BudgetWaiter[] = []

  constructor(bytesMax: number) { this.bytesMax = bytesMax }

  get exhausted(): boolean { return this.bytes >= this.bytesMax }

  wait(waiter: BudgetWaiter): void { this.#waiters.push(waiter) }

  release(bytes: number): void {
    this.bytes -= bytes
    if (this.#waiters.length > 0 && this.bytes + readBytes <= this.bytesMax) this.#wake()
  }

  #wake(): void {
    const count = Math.max(1, Math.floor((this.bytesMax - this.bytes) / readBytes))
    for (const waiter of this.#waiters.splice(0, count)) waiter.resume()
  }
}
