/** A timer that has an owner. `cancel` is idempotent. */
export interface Timer { cancel(): void }

/** Time as a component: code that waits or stamps takes one of these, so that a simulation can own time. */
export interface Clock {
  /** Wall time, milliseconds since 1970. May step in either direction; never used to measure a duration. */
  wallMs(): number
  /** Milliseconds since an arbitrary start; never goes backwards. */
  monotonicMs(): number
  /** Runs `task` once, no earlier than `delayMs` from now. */
  after(delayMs: number, task: () => void): Timer
  /** Runs `task` in a later turn of the event loop, after the I/O that is ready now. */
  soon(task: () => void): void
}

/** 24.8 days: of a longer delay Node makes 1 ms. */
const delayMaxMs = 2 ** 31 - 1

/**
 * The machine's clock. Timers keep the process alive unless `unref` is asked for. A delay past 24.8 days counts as that: whoever
 * waits for longer looks at the time, and waits on.
 */
export class SystemClock implements Clock {
  wallMs(): number { return Date.now() }
  monotonicMs(): number { return performance.now() }
  after(delayMs: number, task: () => void): Timer {
    const handle = setTimeout(task, Math.min(delayMs, delayMaxMs))
    return { cancel: () => clearTimeout(handle) }
  }
  soon(task: () => void): void { setImmediate(task) }
}

/** Resolves after `delayMs`, or rejects with the signal's reason. */
export function wait(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) { reject(signal.reason as Error); return }
    const abort = (): void => { timer.cancel(); reject(signal?.reason as Error) }
    const timer = clock.after(delayMs, () => { signal?.removeEventListener('abort', abort); resolve() })
    signal?.addEventListener('abort', abort, { once: true })
  })
}
