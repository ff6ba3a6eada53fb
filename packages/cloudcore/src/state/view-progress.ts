import { describeError } from '@holdfast/runtime'
import type { Clock, Log, Timer } from '@holdfast/runtime'
import type { Informer } from '../kube/kube-client.ts'
import { compareResourceVersions } from '../kube/resource-version.ts'
import { nodeViewLimits } from './limits.ts'

export interface InformerProgressComponents {
  readonly informer: Informer
  readonly clock: Clock
  readonly log: Log
  /** A list that was asked for has been answered. */
  readonly onAnswered: () => void
}

/** How far a reader says that an informer had seen, made by `InformerProgress.told`. */
export interface ToldVersion {
  /** Undefined: it says nothing. */
  readonly version: string | undefined
  /** Number of the first list that shows something of it: lists that had begun when it was told do not. */
  readonly firstList: number
  /** Since when it has been ahead of the informer; undefined: it is not. */
  aheadSinceMs: number | undefined
}

/**
 * Whether an informer has reached what readers told of it (STA-12). Where one has been ahead for a while, the API is asked by a
 * consistent list whether it went back, for all who wait at once.
 */
export class InformerProgress {
  readonly #components: InformerProgressComponents
  readonly #ahead = new Set<ToldVersion>()
  /** Lists begun. */
  #lists = 0
  /** What the newest list showed; forgotten when the informer goes back: then the API may have gone back once more. */
  #shown: { readonly list: number, readonly version: string } | undefined
  #position: string | undefined
  #failures = 0
  #isAsking = false
  #askAfterMs = -Infinity
  #timer: Timer | undefined
  #isClosed = false

  constructor(components: InformerProgressComponents) { this.#components = components }

  /** How far the informer has seen. */
  get position(): string | undefined { return this.#components.informer.position }

  /** A reader told this now. */
  told(version: string | undefined): ToldVersion { return { version, firstList: this.#lists + 1, aheadSinceMs: undefined } }

  /** It does not matter any more. */
  forget(told: ToldVersion): void {
    told.aheadSinceMs = undefined
    this.#ahead.delete(told)
  }

  /** The informer knows what is there and has seen as much as was told, or that is known to be of the past. Asked often. */
  reached(told: ToldVersion): boolean {
    const { informer, clock } = this.#components
    this.moved()
    if (!informer.synced || this.#position === undefined) return false
    if (told.version === undefined || !isOlder(this.#position, told.version) || this.#isOfThePast(told, this.#position)) {
      this.forget(told)
      return true
    }
    told.aheadSinceMs ??= clock.monotonicMs()
    this.#ahead.add(told)
    this.#arm()
    return false
  }

  /** The informer's position may be another one. */
  moved(): void {
    const { position } = this.#components.informer
    if (position === this.#position) return
    if (position === undefined || (this.#position !== undefined && isOlder(position, this.#position))) this.#shown = undefined
    this.#position = position
  }

  close(): void {
    this.#isClosed = true
    this.#timer?.cancel()
    this.#ahead.clear()
  }

  #isOfThePast({ firstList }: ToldVersion, position: string): boolean {
    return this.#shown !== undefined && this.#shown.list >= firstList && !isOlder(position, this.#shown.version)
  }

  #arm(): void {
    if (this.#timer !== undefined || this.#isAsking || this.#isClosed) return
    const { clock } = this.#components
    const dueMs = Math.max(this.#dueMs(), this.#askAfterMs)
    if (dueMs === Infinity) return
    this.#timer = clock.after(Math.max(0, dueMs - clock.monotonicMs()), () => {
      for (const told of this.#ahead) this.reached(told)
      this.#timer = undefined
      // Another one may have come to be ahead meanwhile, not long enough ago.
      if (this.#dueMs() <= clock.monotonicMs() && this.#components.informer.synced) void this.#ask()
      else this.#arm()
    })
  }

  /** When the first has been ahead for long enough; Infinity: none is ahead. */
  #dueMs(): number {
    if (!this.#components.informer.synced) return Infinity
    let sinceMs = Infinity
    for (const { aheadSinceMs } of this.#ahead) sinceMs = Math.min(sinceMs, aheadSinceMs!)
    return sinceMs + nodeViewLimits.positionAheadMs.value
  }

  async #ask(): Promise<void> {
    const { informer, clock, log, onAnswered } = this.#components
    const list = ++this.#lists
    const begunMs = clock.monotonicMs()
    const before = this.#position
    this.#isAsking = true
    try {
      await informer.relist()
      this.#failures = 0
      this.moved()
      const version = this.#position
      if (informer.synced && version !== undefined) {
        this.#shown = { list, version }
        const told = newestOf(this.#ahead, list)
        if (told !== undefined && isOlder(version, told)) {
          log.warn('the Kubernetes API went back behind what nodes have seen', { kind: informer.kind.plural, told, before, now: version })
        }
      }
    } catch (error) {
      this.#failures++
      // Cut off because cloudcore stops.
      if (this.#isClosed) return
      log.warn('nodes have seen more than cloudcore, and the Kubernetes API does not say whether it went back', {
        kind: informer.kind.plural, error: describeError(error)
      })
    }
    const { askIntervalMs, askIntervalMaxMs } = nodeViewLimits
    this.#askAfterMs = begunMs + Math.min(askIntervalMs.value * 2 ** Math.min(this.#failures, 30), askIntervalMaxMs.value)
    this.#isAsking = false
    if (this.#isClosed) return
    onAnswered()
    this.#arm()
  }
}

/** The newest version that was told before this list began. */
function newestOf(ahead: Iterable<ToldVersion>, list: number): string | undefined {
  let newest: string | undefined
  for (const { version, firstList } of ahead) {
    if (firstList > list || version === undefined) continue
    if (newest === undefined || isOlder(newest, version)) newest = version
  }
  return newest
}

/** Versions that nobody can compare are taken for equal: they say nothing. */
function isOlder(a: string, b: string): boolean { return (compareResourceVersions(a, b) ?? 0) < 0 }
