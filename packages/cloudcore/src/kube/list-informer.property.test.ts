import type { KubeObject } from '@holdfast/kube-api'
import { SeededRandom, silentLog } from '@holdfast/runtime'
import { HandClock, turns } from '@holdfast/runtime/testing'
import { expect, test } from 'vitest'
import type { KubeClient, KubeKind, KubeList, ListSelection, WatchEvent } from './kube-client.ts'
import { refusal, unanswered } from './kube-error.ts'
import { kubeKinds } from './kube-kinds.ts'
import { ListInformer } from './list-informer.ts'

const runs = Number(process.env['RUNS'] ?? 200)
const firstSeed = Number(process.env['SEED'] ?? 1)

interface OpenWatch {
  sent: number
  readonly end: (error?: Error) => void
  readonly onEvent: (event: WatchEvent) => void
}

interface Backup { readonly revision: number, readonly objects: Map<string, KubeObject>, readonly events: Change[] }
interface Change { readonly revision: number, readonly event: WatchEvent }

/** An API as simple as it can be, with everything that can go wrong between it and a client. */
class FaultyApi implements Pick<KubeClient, 'list' | 'watch'> {
  readonly #random: SeededRandom
  #revision = 100
  #objects = new Map<string, KubeObject>()
  #events: Change[] = []
  /** Versions below are forgotten. */
  #floor = 100
  #uid = 0
  isFaulty = true
  readonly #watches = new Set<OpenWatch>()
  /** Answers on their way. */
  readonly #answers: { readonly give: () => void, readonly fail: (error: Error) => void }[] = []

  constructor(random: SeededRandom) { this.#random = random }

  get revision(): number { return this.#revision }

  versions(): string[] { return versionsOf(this.#objects.values()) }

  write(): void {
    const name = `o${this.#random.integer(1, 6)}`
    const there = this.#objects.get(name)
    this.#revision++
    const isDeletion = there !== undefined && this.#random.chance(0.4)
    const uid = there === undefined ? String(++this.#uid) : there.metadata.uid!
    const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'n', uid, resourceVersion: String(this.#revision) } }
    if (isDeletion) this.#objects.delete(name)
    else this.#objects.set(name, object)
    this.#events.push({ revision: this.#revision, event: { type: isDeletion ? 'DELETED' : there === undefined ? 'ADDED' : 'MODIFIED', object } })
  }

  compact(): void {
    this.#floor = this.#revision
    this.#events = []
  }

  backup(): Backup { return { revision: this.#revision, objects: new Map(this.#objects), events: [...this.#events] } }

  /** With the restart that this takes. */
  restore({ revision, objects, events }: Backup): void {
    this.#revision = revision
    this.#objects = new Map(objects)
    this.#events = [...events]
    this.#floor = Math.min(this.#floor, revision)
    this.cut()
    for (const { fail } of this.#answers.splice(0)) fail(unanswered('Unreachable', 'cut'))
  }

  /** All connections break. */
  cut(): void {
    for (const watch of this.#watches) watch.end(unanswered('Unreachable', 'cut'))
  }

  /** Some watch gets some of what it has not got. */
  send(): void {
    const watch = [...this.#watches][this.#random.integer(0, Math.max(0, this.#watches.size - 1))]
    if (watch === undefined) return
    if (watch.sent < this.#floor) {
      watch.end(refusal('watch', 410, { reason: 'Expired' }))
      return
    }
    const due = this.#events.filter(({ revision }) => revision > watch.sent)
    for (const { revision, event } of due.slice(0, this.#random.integer(0, due.length))) {
      watch.sent = revision
      watch.onEvent(event)
    }
    if (watch.sent >= (due.at(-1)?.revision ?? 0) && watch.sent <= this.#revision && this.#random.chance(0.3)) {
      watch.sent = this.#revision
      watch.onEvent({ type: 'BOOKMARK', resourceVersion: String(this.#revision) })
    }
  }

  /** Time enough passes for the client to give up a watch that waits in silence for a version to come. */
  silence(): void {
    for (const watch of this.#watches) if (watch.sent > this.#revision) watch.end(unanswered('Silent', 'nothing was heard'))
  }

  /** Some watch comes to its end. */
  end(): void { [...this.#watches][0]?.end() }

  /** Some answer arrives. */
  answer(): void { this.#answers.splice(this.#random.integer(0, Math.max(0, this.#answers.length - 1)), 1)[0]?.give() }

  list(_: KubeKind, { fieldSelector }: ListSelection, signal: AbortSignal): Promise<KubeList> {
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => { reject(signal.reason as Error) }, { once: true })
      const fault = this.#fault()
      // What is answered is what was there at some time between question and answer.
      const read = (): KubeList =>
        ({ items: fieldSelector === undefined ? [...this.#objects.values()] : [], resourceVersion: String(this.#revision) })
      const early = this.#random.chance(0.5) ? read() : undefined
      this.#answers.push({ give: () => { if (fault === undefined) resolve(early ?? read()); else reject(fault) }, fail: reject })
    })
  }

  watch(
    _: KubeKind, __: ListSelection, resourceVersion: string, onEvent: (event: WatchEvent) => void, signal: AbortSignal
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const fault = this.#fault() ?? (Number(resourceVersion) < this.#floor ? refusal('watch', 410, { reason: 'Expired' }) : undefined)
      if (fault !== undefined) {
        this.#answers.push({ give: () => { reject(fault) }, fail: reject })
        signal.addEventListener('abort', () => { resolve() }, { once: true })
        return
      }
      const watch = {
        sent: Number(resourceVersion),
        onEvent: (event: WatchEvent) => {
          try {
            onEvent(event)
          } catch (error) {
            watch.end(error as Error)
          }
        },
        end: (error?: Error) => {
          this.#watches.delete(watch)
          if (error === undefined) resolve()
          else reject(error)
        }
      }
      this.#watches.add(watch)
      signal.addEventListener('abort', () => { watch.end() }, { once: true })
    })
  }

  #fault(): Error | undefined {
    if (!this.isFaulty || this.#random.chance(0.6)) return undefined
    return [unanswered('Unreachable', 'no'), unanswered('Silent', 'no'), refusal('x', 403, {}), refusal('x', 500, {}), refusal('x', 429, {}),
      refusal('x', 410, { reason: 'Expired' })][this.#random.integer(0, 5)]
  }
}

function versionsOf(objects: Iterable<KubeObject>): string[] {
  return Array.from(objects, ({ metadata }) => `${metadata.name} ${metadata.uid}@${metadata.resourceVersion}`).toSorted()
}

async function run(seed: number): Promise<void> {
  const random = new SeededRandom(seed)
  const api = new FaultyApi(random)
  const clock = new HandClock()
  const informer = new ListInformer({ kind: kubeKinds.configMaps }, { client: api, clock, random, log: silentLog })
  const followed = new Map<string, KubeObject>()
  /** The least that the informer may still say to have seen. */
  let leastPosition = 0
  informer.subscribe({
    onPosition() {
      expect(Number(informer.position)).toBeGreaterThanOrEqual(leastPosition)
      leastPosition = Number(informer.position)
    },
    onChange(before, after) {
      const key = `n/${(after ?? before)!.metadata.name!}`
      expect(followed.get(key)).toBe(before)
      expect(informer.get(key)).toBe(after)
      if (after === undefined) followed.delete(key)
      else followed.set(key, after)
    }
  })
  const stop = new AbortController()
  const running = informer.run(stop.signal)
  const asked: Promise<unknown>[] = []
  let backup = api.backup()
  let wasSynced = false
  const pass = async (): Promise<void> => {
    api.answer()
    api.send()
    if (random.chance(0.1)) api.silence()
    clock.advance(random.integer(0, 20_000))
    await turns()
  }
  /** Until the informer has seen that the source went back; nobody could tell that later. No fault helps it to a list. */
  const notice = async (): Promise<void> => {
    leastPosition = 0
    api.isFaulty = false
    for (let i = 0; i < 2000 && Number(informer.position ?? 0) > api.revision; i++) await pass()
    expect(Number(informer.position ?? 0)).toBeLessThanOrEqual(api.revision)
    api.isFaulty = true
  }
  for (let step = 0; step < 120; step++) {
    const what = random.integer(0, 19)
    if (what < 7) api.write()
    else if (what < 11) api.send()
    else if (what < 14) api.answer()
    else if (what === 14) api.cut()
    else if (what === 15) api.end()
    else if (what === 16) api.compact()
    else if (what === 17) asked.push(informer.relist().catch(() => undefined))
    else if (what === 18 && random.chance(0.3)) {
      if (random.chance(0.5) || backup.revision >= api.revision) backup = api.backup()
      else {
        api.restore(backup)
        await notice()
      }
    } else clock.advance(random.integer(0, 40_000))
    await turns()
    expect(informer.synced || !wasSynced, 'synced is not taken back').toBe(true)
    wasSynced = informer.synced
    expect(versionsOf(informer.objects())).toEqual(versionsOf(followed.values()))
  }
  api.isFaulty = false
  for (let i = 0; i < 2000 && informer.position !== String(api.revision); i++) await pass()
  expect([informer.synced, informer.position, versionsOf(informer.objects())]).toEqual([true, String(api.revision), api.versions()])
  for (let i = 0; i < 5; i++) await pass()
  expect(versionsOf(informer.objects())).toEqual(api.versions())
  stop.abort()
  await running
  await Promise.all(asked)
}

test('whatever fails, what is known changes only as the API did, and ends as what is there', { timeout: 60_000 }, async () => {
  for (let seed = firstSeed; seed < firstSeed + runs; seed++) {
    await run(seed).catch((error: unknown) => { throw new Error(`SEED=${seed} RUNS=1`, { cause: error }) })
  }
})
