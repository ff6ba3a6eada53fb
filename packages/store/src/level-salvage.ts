import { open as openFile, readFile, readdir } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { describeError } from '@holdfast/runtime'
import type { StoreEntry } from './store.ts'

/** Told of every part that is left out: file, offset, reason. */
export type OnDamage = (what: string) => void

/** One version of a key, as logs and tables hold it; without a value it is a deletion. */
interface Version {
  readonly key: Buffer
  readonly sequence: number
  readonly value: Buffer | undefined
}

/** Where a block of a table is, without its trailer. */
interface BlockPlace { readonly offset: number; readonly size: number }

/** Versions ordered by key, newest first within a key. Empty: there are no more. */
interface Source { next(): Promise<readonly Version[]> }

/**
 * Every newest version of a key in the logs and tables of a LevelDB folder, read without LevelDB and without writing.
 *
 * A record or block is taken only where its CRC-32C holds, so that what comes out was once written. It may have been
 * deleted or replaced since: where the newer version was in a damaged part, the older one comes out. Neither CURRENT
 * nor MANIFEST is needed; sequence numbers tell which version is newest.
 *
 * LevelDB's own repair is not used: 1.20 reads logs and tables without verifying checksums (one flipped bit in a log
 * gave one silently wrong value of 100), and it writes a second copy, for which a full disk has no room.
 *
 * Memory: the logs, and of each table one read of at most `readBytes` or one block. Format: LevelDB's doc/log_format.md
 * and doc/table_format.md.
 */
export async function* salvageLevelFiles(folder: string, onDamage: OnDamage): AsyncGenerator<StoreEntry> {
  const names = (await readdir(folder)).toSorted()
  const sources: Source[] = []
  for (const name of names) {
    const path = join(folder, name)
    if (/^\d+\.log$/.test(name)) sources.push(await logSource(path, onDamage))
    else if (tableName.test(name)) sources.push(await tableSource(path, onDamage))
  }
  yield* newestVersions(sources)
}

/** Merges the sources. Held as a binary heap of cursors, the smallest key in front, newest first. */
async function* newestVersions(sources: readonly Source[]): AsyncGenerator<StoreEntry> {
  const heap: { source: Source; versions: readonly Version[]; at: number }[] = []
  const before = (a: number, b: number): boolean => {
    const x = heap[a]!
    const y = heap[b]!
    return compareVersions(x.versions[x.at]!, y.versions[y.at]!) < 0
  }
  const swap = (a: number, b: number): void => { [heap[a], heap[b]] = [heap[b]!, heap[a]!] }
  const sink = (): void => {
    for (let parent = 0; ;) {
      let least = parent
      for (let child = 2 * parent + 1; child <= 2 * parent + 2 && child < heap.length; child++) {
        if (before(child, least)) least = child
      }
      if (least === parent) return
      swap(parent, least)
      parent = least
    }
  }
  for (const source of sources) {
    const versions = await source.next()
    if (versions.length === 0) continue
    heap.push({ source, versions, at: 0 })
    for (let child = heap.length - 1; child > 0 && before(child, (child - 1) >> 1); child = (child - 1) >> 1) {
      swap(child, (child - 1) >> 1)
    }
  }
  let last: Buffer | undefined
  for (let front = heap[0]; front !== undefined; front = heap[0]) {
    const { key, value } = front.versions[front.at]!
    if (last === undefined || Buffer.compare(last, key) !== 0) {
      last = key
      if (value !== undefined) yield { key, value }
    }
    if (++front.at === front.versions.length) {
      front.versions = await front.source.next()
      front.at = 0
      if (front.versions.length === 0) {
        const end = heap.pop()!
        if (end !== front) heap[0] = end
      }
    }
    sink()
  }
}

function compareVersions(a: Version, b: Version): number {
  return Buffer.compare(a.key, b.key) || b.sequence - a.sequence
}

// Logs

const logBlockBytes = 32 * 1024
const logHeaderBytes = 7

async function logSource(path: string, onDamage: OnDamage): Promise<Source> {
  const versions: Version[] = []
  try {
    readLog(await readFile(path), versions, what => onDamage(`${path}: ${what}`))
  } catch (error) {
    onDamage(`${path}: ${describeError(error)}`)
  }
  let unread = versions.sort(compareVersions)
  return {
    async next() {
      const read = unread
      unread = []
      return read
    }
  }
}

const tableName = /^\d+\.(ldb|sst)$/

/** How the damage begins that a crash in mid-write leaves: nobody was told that this record is durable. */
const tornEnd = 'the last fragment, at'

/**
 * What LevelDB will leave out, without a word, when it opens this folder: damaged records of its logs. A record that a
 * crash cut short at the end of a log is not among them. Empty where there is no such folder.
 */
export async function damagedLogRecords(folder: string): Promise<string[]> {
  const damage: string[] = []
  for (const name of await readdir(folder).catch(() => [])) {
    if (!/^\d+\.log$/.test(name)) continue
    readLog(await readFile(join(folder, name)), [], what => { if (!what.startsWith(tornEnd)) damage.push(`${name}: ${what}`) })
  }
  return damage
}

/**
 * Every damaged part of the finished tables of a folder. One without a footer is what a crash left of a table that nothing
 * names yet; where something does, LevelDB says so itself. Reads everything: CRC-32C of every block, some 300 MB a second.
 */
export async function damagedTableBlocks(folder: string): Promise<string[]> {
  const damage: string[] = []
  for (const name of await readdir(folder).catch(() => [])) {
    if (!tableName.test(name)) continue
    const path = join(folder, name)
    if (!await withFile(path, () => {}, false, isFinished)) continue
    const table = await tableSource(path, what => damage.push(what))
    while ((await table.next()).length > 0);
  }
  return damage
}

async function isFinished(file: FileHandle): Promise<boolean> {
  const { size } = await file.stat()
  const magic = await readAt(file, Math.max(size - 8, 0), 8)
  return magic.length === 8 && magic.readBigUInt64LE(0) === tableMagic
}

/**
 * Fragments in blocks of 32 KiB: masked CRC (4), length (2), kind (1: whole, 2: first, 3: middle, 4: last). A
 * fragment with a wrong CRC is passed by its length once; if what follows does not fit either, the rest of the block
 * is left out.
 */
function readLog(log: Buffer, versions: Version[], onDamage: OnDamage): void {
  let record: Buffer[] | undefined
  for (let block = 0; block < log.length; block += logBlockBytes) {
    const end = Math.min(block + logBlockBytes, log.length)
    let trusted = true
    for (let at = block; at + logHeaderBytes <= end;) {
      const length = log.readUInt16LE(at + 4)
      const kind = log[at + 6]!
      if (kind === 0 && length === 0) {
        // Zeros: space that was allocated and never written. Behind them there can be nothing.
        if (log.subarray(at).every(byte => byte === 0)) return
        onDamage(`zeros at ${at}`)
        record = undefined
        break
      }
      const next = at + logHeaderBytes + length
      if (next > end) {
        onDamage(end === log.length ? `${tornEnd} ${at} is cut short` : `fragment at ${at} is cut short`)
        record = undefined
        break
      }
      if (maskedCrc32c(log, at + 6, next) !== log.readUInt32LE(at)) {
        onDamage(`fragment at ${at} has a wrong checksum`)
        record = undefined
        if (!trusted) break
        trusted = false
        at = next
        continue
      }
      trusted = true
      const body = log.subarray(at + logHeaderBytes, next)
      if (kind === 1) readWriteBatch(body, versions, onDamage)
      else if (kind === 2) record = [body]
      else record?.push(body)
      if (kind === 4 && record !== undefined) {
        readWriteBatch(Buffer.concat(record), versions, onDamage)
        record = undefined
      }
      at = next
    }
  }
}

/** Sequence of the first operation (8), count (4), then per operation: 1 key value, or 0 key, each with its length. */
function readWriteBatch(batch: Buffer, versions: Version[], onDamage: OnDamage): void {
  const read: Version[] = []
  const reader = new Reader(batch, 12)
  try {
    const first = Number(batch.readBigUInt64LE(0))
    const count = batch.readUInt32LE(8)
    for (let n = 0; n < count; n++) {
      const put = reader.byte() === 1
      const key = reader.bytes(reader.varint())
      read.push({ key, sequence: first + n, value: put ? reader.bytes(reader.varint()) : undefined })
    }
  } catch (error) {
    onDamage(describeError(error))
    return
  }
  for (const version of read) versions.push(version)
}

// Tables

const footerBytes = 48
const tableMagic = 0xdb4775248b80fb57n
const blockTrailerBytes = 5

/** Neighbouring blocks are read together up to this many bytes. */
const readBytes = 64 * 1024

async function tableSource(path: string, onDamage: OnDamage): Promise<Source> {
  const damaged: OnDamage = what => onDamage(`${path}: ${what}`)
  const blocks = await withFile(path, damaged, [], file => blockPlaces(file, damaged))
  let at = 0
  // The first read is one block: of tables that lie behind one another, most wait long for their turn.
  let bytesMax = 0
  return {
    async next() {
      while (at < blocks.length) {
        const from = at++
        const start = blocks[from]!.offset
        const end = (): number => blocks[at - 1]!.offset + blocks[at - 1]!.size + blockTrailerBytes
        while (at < blocks.length && blocks[at]!.offset === end() && end() - start < bytesMax) at++
        bytesMax = readBytes
        const versions = await withFile(path, damaged, [], file => readBlocks(file, blocks.slice(from, at), damaged))
        if (versions.length > 0) return versions
      }
      return []
    }
  }
}

async function withFile<T>(
  path: string,
  damaged: OnDamage,
  otherwise: T,
  task: (file: FileHandle) => Promise<T>
): Promise<T> {
  try {
    const file = await openFile(path, 'r')
    try {
      return await task(file)
    } finally {
      await file.close()
    }
  } catch (error) {
    damaged(describeError(error))
    return otherwise
  }
}

/** Data blocks by the table's index; where footer or index are damaged, by walking from block to block. */
async function blockPlaces(file: FileHandle, damaged: OnDamage): Promise<BlockPlace[]> {
  const { size } = await file.stat()
  try {
    const footer = await readAt(file, Math.max(size - footerBytes, 0), Math.min(size, footerBytes))
    if (footer.length < footerBytes || footer.readBigUInt64LE(40) !== tableMagic) throw new Error('no table footer')
    const reader = new Reader(footer, 0)
    blockPlace(reader, size)
    const index = blockPlace(reader, size)
    const block = verifiedBlock(await readAt(file, index.offset, index.size + blockTrailerBytes), index)
    const places: BlockPlace[] = []
    readBlockEntries(block, (_key, value) => places.push(blockPlace(new Reader(value, 0), size)))
    return places
  } catch (error) {
    damaged(`index: ${describeError(error)}`)
    return walkBlocks(await readAt(file, 0, size), damaged)
  }
}

function blockPlace(reader: Reader, fileBytes: number): BlockPlace {
  const place = { offset: reader.varint(), size: reader.varint() }
  if (place.offset + place.size + blockTrailerBytes > fileBytes) {
    throw new Error(`block at ${place.offset} is cut short`)
  }
  return place
}

async function readBlocks(file: FileHandle, blocks: readonly BlockPlace[], damaged: OnDamage): Promise<Version[]> {
  const start = blocks[0]!.offset
  const last = blocks.at(-1)!
  let bytes: Buffer
  try {
    bytes = await readAt(file, start, last.offset + last.size + blockTrailerBytes - start)
  } catch (error) {
    // A bad sector fails the whole read: find the blocks beside it.
    if (blocks.length === 1) throw error
    const versions: Version[] = []
    for (const block of blocks) {
      try {
        versions.push(...await readBlocks(file, [block], damaged))
      } catch (single) {
        damaged(`block at ${block.offset}: ${describeError(single)}`)
      }
    }
    return versions
  }
  const versions: Version[] = []
  for (const place of blocks) {
    try {
      const from = place.offset - start
      const block = verifiedBlock(bytes.subarray(from, from + place.size + blockTrailerBytes), place)
      readBlockEntries(block, (key, value) => versions.push(versionOf(key, value)))
    } catch (error) {
      damaged(describeError(error))
    }
  }
  return versions
}

/** A key of a table ends in eight bytes: 56 bits of sequence and 8 of kind (1 a value, 0 a deletion). */
function versionOf(internalKey: Buffer, value: Buffer): Version {
  const end = internalKey.length - 8
  if (end < 0) throw new Error('key without a sequence number')
  const low = internalKey.readUInt32LE(end)
  return {
    key: internalKey.subarray(0, end),
    sequence: internalKey.readUInt32LE(end + 4) * 0x100_0000 + (low >>> 8),
    value: (low & 0xff) === 1 ? value : undefined
  }
}

/** The contents of a block whose trailer (codec, masked CRC) holds. Codec 0 is the only one that LevelStore writes. */
function verifiedBlock(bytes: Buffer, { offset, size }: BlockPlace): Buffer {
  if (bytes.length < size + blockTrailerBytes) throw new Error(`block at ${offset} is cut short`)
  if (maskedCrc32c(bytes, 0, size + 1) !== bytes.readUInt32LE(size + 1)) {
    throw new Error(`block at ${offset} has a wrong checksum`)
  }
  if (bytes[size] !== 0) throw new Error(`block at ${offset} is compressed (codec ${bytes[size]})`)
  return bytes.subarray(0, size)
}

/** Entries: bytes shared with the key before, own bytes of the key, bytes of the value; then both. Last, restarts. */
function readBlockEntries(block: Buffer, onEntry: (key: Buffer, value: Buffer) => void): void {
  const end = block.length - 4 * (block.readUInt32LE(block.length - 4) + 1)
  const reader = new Reader(block, 0)
  let key: Buffer = Buffer.alloc(0)
  while (reader.at < end) {
    const shared = reader.varint()
    const own = reader.varint()
    const valueBytes = reader.varint()
    key = shared === 0 ? reader.bytes(own) : Buffer.concat([key.subarray(0, shared), reader.bytes(own)])
    onEntry(key, reader.bytes(valueBytes))
  }
}

/**
 * Data blocks from the start of a table on, without its index. The end of a block is where an entry would be empty (no
 * entry is: keys end in a sequence number) and an array of restarts fits; the trailer's CRC proves it. The walk ends at
 * the first damaged block, or at the filter behind the data, which is not made of entries. That end is essential: the
 * index further on looks like data.
 */
function walkBlocks(table: Buffer, damaged: OnDamage): BlockPlace[] {
  const places: BlockPlace[] = []
  const reader = new Reader(table, 0)
  try {
    for (let offset = 0; ;) {
      while (table.readUInt32LE(reader.at) !== 0) {
        reader.varint()
        const own = reader.varint()
        const valueBytes = reader.varint()
        reader.bytes(own)
        reader.bytes(valueBytes)
      }
      let restarts = 1
      while (table.readUInt32LE(reader.at + 4 * restarts) !== restarts) restarts++
      const place = { offset, size: reader.at + 4 * (restarts + 1) - offset }
      verifiedBlock(table.subarray(offset, offset + place.size + blockTrailerBytes), place)
      places.push(place)
      offset += place.size + blockTrailerBytes
      reader.at = offset
    }
  } catch (error) {
    damaged(`after ${places.length} blocks: ${describeError(error)}`)
    return places
  }
}

async function readAt(file: FileHandle, offset: number, bytes: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(bytes)
  const { bytesRead } = await file.read(buffer, 0, bytes, offset)
  return buffer.subarray(0, bytesRead)
}

/** Reads forward through bytes that nobody vouches for: throws a RangeError rather than reading past the end. */
class Reader {
  readonly #bytes: Buffer
  at: number

  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes
    this.at = at
  }

  byte(): number { return this.#bytes.readUInt8(this.at++) }

  /** At most 2^49: every length and offset here is far below. */
  varint(): number {
    let value = 0
    for (let shift = 1; shift < 2 ** 49; shift *= 128) {
      const byte = this.byte()
      value += (byte & 0x7f) * shift
      if (byte < 0x80) return value
    }
    throw new RangeError('number with too many bytes')
  }

  /** A view, not a copy. */
  bytes(length: number): Buffer {
    const end = this.at + length
    if (end > this.#bytes.length) throw new RangeError(`${length} bytes expected at ${this.at}, past the end`)
    const bytes = this.#bytes.subarray(this.at, end)
    this.at = end
    return bytes
  }
}

/** CRC-32C, Castagnoli's polynomial reflected (RFC 3720 §12.1). */
const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0)
  return crc
})

/** Rotated and shifted, as LevelDB stores it, because a checksum over bytes that hold their checksum is weak. */
function maskedCrc32c(bytes: Buffer, from: number, to: number): number {
  let crc = 0xffff_ffff
  for (let i = from; i < to; i++) crc = (crc >>> 8) ^ crcTable[(crc ^ bytes[i]!) & 0xff]!
  crc = ~crc
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0
}
