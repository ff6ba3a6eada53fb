import { crc32 } from 'node:zlib'
import { salvageTables, tables, writeSynced } from '@holdfast/store'
import type { Committer, Store, StoreEntry, WriteOp } from '@holdfast/store'

/** A mapper as it has registered. */
export interface MapperRegistration {
  readonly name: string
  readonly version: string
  readonly apiVersion: string
  /** One mapper a protocol: the last one that registered. */
  readonly protocol: string
  /** Path of its Unix socket. */
  readonly address: string
}

/** `device/<namespace>/<name>` or `model/<namespace>/<name>`. */
export type TellingKey = `device/${string}` | `model/${string}`

interface Remembered {
  registration: MapperRegistration
  durable: boolean
  readonly told: Set<TellingKey>
}

const format = 1

/**
 * What is to be known of mappers after a restart of edgecore: which there are, since one registers only when it starts
 * itself, and what each may hold, so that it can be told to forget what is gone meanwhile (docs/storage.md, tables 0x29, 0x2a).
 */
export class MapperMemory {
  readonly #committer: Committer
  readonly #mappers: Map<string, Remembered>

  private constructor(mappers: Map<string, Remembered>, committer: Committer) {
    this.#mappers = mappers
    this.#committer = committer
  }

  /** What is damaged is left out: its mapper registers again when it starts. */
  static async open(store: Store, committer: Committer): Promise<MapperMemory> {
    const mappers = new Map<string, Remembered>()
    for await (const { value } of entriesOf(store, tables.dmiMapper)) {
      const registration = decodeRegistration(value)
      if (registration !== undefined) mappers.set(registration.protocol, { registration, durable: true, told: new Set() })
    }
    for await (const { key, value } of entriesOf(store, tables.dmiTold)) {
      const read = value[0] === format ? readToldKey(key) : undefined
      if (read !== undefined) mappers.get(read.protocol)?.told.add(read.telling)
    }
    return new MapperMemory(mappers, committer)
  }

  get size(): number { return this.#mappers.size }
  get registrations(): MapperRegistration[] { return [...this.#mappers.values()].map(({ registration }) => registration) }

  /** What the mapper of `protocol` may hold. */
  told(protocol: string): ReadonlySet<TellingKey> { return this.#mappers.get(protocol)?.told ?? new Set() }

  /** Resolves when it is durable; rejects with the error of the commit. It holds at once either way. */
  async remember(registration: MapperRegistration): Promise<void> {
    const known = this.#mappers.get(registration.protocol)
    if (known?.durable === true && JSON.stringify(known.registration) === JSON.stringify(registration)) return
    const remembered = known ?? { registration, durable: false, told: new Set() }
    remembered.registration = registration
    remembered.durable = false
    this.#mappers.set(registration.protocol, remembered)
    const [key, value] = encodeRegistration(registration)
    const commit = this.#committer.gather({ bytes: key.length + value.length })
    commit.put(key, value)
    await new Promise<void>((resolve, reject) => {
      commit.onDurable(error => {
        if (error === undefined) resolve()
        else reject(error)
      })
    })
    if (remembered.registration === registration) remembered.durable = true
  }

  /** Forgets a mapper and what it was told. */
  forget(protocol: string): void {
    const known = this.#mappers.get(protocol)
    if (known === undefined) return
    this.#mappers.delete(protocol)
    const keys = [registrationKey(protocol), ...[...known.told].map(telling => toldKey(protocol, telling))]
    const commit = this.#committer.gather({ bytes: keys.length * 64 })
    for (const key of keys) commit.del(key)
  }

  /** The mapper is about to be told of it. */
  mark(protocol: string, telling: TellingKey): void {
    const told = this.#mappers.get(protocol)?.told
    if (told === undefined || told.has(telling)) return
    told.add(telling)
    const key = toldKey(protocol, telling)
    this.#committer.gather({ bytes: key.length + 1 }).put(key, Buffer.from([format]))
  }

  /** The mapper holds it no more. */
  unmark(protocol: string, telling: TellingKey): void {
    if (this.#mappers.get(protocol)?.told.delete(telling) !== true) return
    const key = toldKey(protocol, telling)
    this.#committer.gather({ bytes: key.length }).del(key)
  }

  /** Writes all of it into a store that was opened anew: what had failed, or was not to be salvaged, is there again. */
  async reopen(store: Store): Promise<void> {
    const ops = [...this.#mappers].flatMap(([protocol, { registration, told }]): WriteOp[] => {
      const [key, value] = encodeRegistration(registration)
      return [
        { type: 'put', key, value },
        ...[...told].map((telling): WriteOp => ({ type: 'put', key: toldKey(protocol, telling), value: Buffer.from([format]) }))
      ]
    })
    if (ops.length > 0) await writeSynced(store, ops)
    for (const mapper of this.#mappers.values()) mapper.durable = true
  }
}

/** Takes what is sound of a quarantined store's tables of mappers over into a new one. */
export class MapperSalvage {
  readonly counts = { mapperEntries: 0, damagedMapperEntries: 0 }
  readonly #store: Store

  constructor(store: Store) { this.#store = store }

  /** Passes on the entries of other tables; what is taken over is on the disk when it ends. */
  taking(entries: AsyncIterable<StoreEntry>): AsyncGenerator<StoreEntry> {
    return salvageTables(entries, this.#store, ({ key, value }) => {
      if (key[0] !== tables.dmiMapper && key[0] !== tables.dmiTold) return 'pass'
      const sound = key[0] === tables.dmiMapper ? decodeRegistration(value) !== undefined : readToldKey(key) !== undefined
      this.counts[sound ? 'mapperEntries' : 'damagedMapperEntries']++
      return sound ? 'take' : 'leave'
    })
  }
}

async function* entriesOf(store: Store, table: number): AsyncGenerator<StoreEntry> {
  const lt = Buffer.from([table + 1])
  for (let gte: Buffer = Buffer.from([table]); ;) {
    const page = await store.scan({ gte, lt })
    yield* page
    const last = page.at(-1)
    if (last === undefined) return
    gte = Buffer.concat([last.key, Buffer.from([0])])
  }
}

function registrationKey(protocol: string): Buffer {
  return Buffer.concat([Buffer.from([tables.dmiMapper]), Buffer.from(protocol)])
}

function encodeRegistration(registration: MapperRegistration): [key: Buffer, value: Buffer] {
  const text = Buffer.from(JSON.stringify(registration))
  const head = Buffer.alloc(5)
  head[0] = format
  head.writeUInt32BE(crc32(text), 1)
  return [registrationKey(registration.protocol), Buffer.concat([head, text])]
}

function decodeRegistration(value: Buffer): MapperRegistration | undefined {
  if (value.length <= 5 || value[0] !== format || value.readUInt32BE(1) !== crc32(value.subarray(5))) return undefined
  return JSON.parse(value.toString('utf8', 5)) as MapperRegistration
}

function toldKey(protocol: string, telling: TellingKey): Buffer {
  const name = Buffer.from(protocol)
  const length = Buffer.alloc(2)
  length.writeUInt16BE(name.length)
  return Buffer.concat([Buffer.from([tables.dmiTold]), length, name, Buffer.from(telling)])
}

function readToldKey(key: Buffer): { readonly protocol: string, readonly telling: TellingKey } | undefined {
  if (key.length < 3) return undefined
  const end = 3 + key.readUInt16BE(1)
  const telling = key.toString('utf8', end)
  return /^(device|model)\/[^/]+\/[^/]+$/.test(telling)
    ? { protocol: key.toString('utf8', 3, end), telling: telling as TellingKey }
    : undefined
}
