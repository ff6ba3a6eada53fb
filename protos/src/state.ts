import { FieldReader } from './field-reader.ts'
import { FrameError } from './frame-error.ts'
import { varintLength, writeVarint } from './varint.ts'

/** Collections of one direction. */
export const stateCollectionsMax = 32
/** Items of one collection. */
export const stateItemsMax = 50_000
export const stateKeyBytesMax = 512
export const stateVersionBytesMax = 64
export const stateValueBytesMax = 3 * 1024 * 1024
export const statePositionBytesMax = 512
export const stateDigestBytes = 16
/** Puts and deletions of one batch. */
export const stateChangesMax = 4096
/** Body of a batch, as it is sent and before compression. No decoder believes a larger length. */
export const stateBodyBytesMax = 4 * 1024 * 1024
export const stateRawBytesMax = 8 * 1024 * 1024
/** Entries and bytes of one page of an inventory. */
export const inventoryEntriesMax = 1000
export const inventoryBytesMax = 128 * 1024
/** Frames of digests, verdicts and acknowledgements; checked before anything of them is decoded. */
export const stateControlBytesMax = 64 * 1024

export const stateVerdicts = ['equal', 'differs', 'not-ready', 'other-cluster'] as const
/** What a writer says of a reader's digest (STA-11, STA-15). */
export type StateVerdictKind = (typeof stateVerdicts)[number]

/** What a reader holds of one collection. */
export interface CollectionDigest {
  readonly collection: string
  readonly digest: Buffer
  /** The writer's, as it came with the last batch; empty: none. */
  readonly position: string
}

export interface CollectionVerdict {
  readonly collection: string
  readonly verdict: StateVerdictKind
  /** With `differs`: the reader's inventory is asked for, from behind this key. */
  readonly after: string
}

export interface StateDigestFrame { readonly kind: 'state-digest', readonly digests: readonly CollectionDigest[] }
export interface StateVerdictFrame { readonly kind: 'state-verdict', readonly verdicts: readonly CollectionVerdict[] }

export interface StateInventory {
  readonly kind: 'state-inventory'
  readonly collection: string
  /** The key behind which the page begins. */
  readonly after: string
  /** In the order of the keys' bytes. */
  readonly entries: readonly (readonly [key: string, version: Buffer])[]
  /** Nothing is held behind this page. */
  readonly last: boolean
}

export interface StateChanges {
  readonly kind: 'state-changes'
  /** Of the batch, from 1 in each session, without holes. */
  readonly sequence: number
  /** Length of the whole body as it is sent, in every part. */
  readonly bodyLength: number
  /** Length of the body before compression; 0: not compressed. */
  readonly rawLength: number
  /** Where this slice begins. */
  readonly position: number
  readonly data: Buffer
}

export interface StateAck {
  readonly kind: 'state-ack'
  /** Every batch up to this one is applied and durable. */
  readonly sequence: number
  /** Bytes of bodies that arrived in this session. */
  readonly receivedBytes: number
  /** Why the batch behind `sequence` cannot be held; empty: all is well. */
  readonly refused: string
}

/** Changes of one collection, applied together or not at all. */
export interface StateBatch {
  readonly collection: string
  readonly puts: readonly { readonly key: string, readonly version: Buffer, readonly value: Buffer }[]
  readonly deletes: readonly string[]
  readonly synced: boolean
  /** How far the writer had seen; empty: it does not say. */
  readonly position: string
}

const collectionPattern = /^[a-z0-9-]{1,63}$/
const keyPattern = /^[\x21-\x7e]{1,512}$/
const positionPattern = /^[\x20-\x7e]{0,512}$/

export function isStateCollection(text: string): boolean { return collectionPattern.test(text) }

/** Keys are printable ASCII without spaces, so that their order is the same everywhere. */
export function isStateKey(text: string): boolean { return keyPattern.test(text) }

export function isStatePosition(text: string): boolean { return positionPattern.test(text) }

/** Length of a length-delimited field with a tag of one byte. */
function fieldLength(length: number): number { return 1 + varintLength(length) + length }

function writeText(target: Buffer, at: number, tag: number, text: string): number {
  target[at] = tag
  at = writeVarint(target, at + 1, text.length)
  return at + target.write(text, at, text.length, 'latin1')
}

function writeBytes(target: Buffer, at: number, tag: number, bytes: Buffer): number {
  target[at] = tag
  at = writeVarint(target, at + 1, bytes.length)
  return at + bytes.copy(target, at)
}

function writeNumber(target: Buffer, at: number, tag: number, value: number): number {
  if (value === 0) return at
  target[at] = tag
  return writeVarint(target, at + 1, value)
}

function numberLength(value: number): number { return value === 0 ? 0 : 1 + varintLength(value) }

/** Bytes that an item, or without a value a deletion, takes in a batch. */
export function stateChangeBytes(key: string, version?: Buffer, value?: Buffer): number {
  return version === undefined || value === undefined ? fieldLength(key.length) :
    fieldLength(fieldLength(key.length) + fieldLength(version.length) + fieldLength(value.length))
}

/** Body of a batch, before compression: a StateBatch of state.proto. Keys and names are taken to be within their bounds. */
export function encodeStateBatch(batch: StateBatch): Buffer {
  let length = fieldLength(batch.collection.length)
  for (const { key, version, value } of batch.puts) length += stateChangeBytes(key, version, value)
  for (const key of batch.deletes) length += stateChangeBytes(key)
  if (batch.synced) length += 2
  if (batch.position !== '') length += fieldLength(batch.position.length)
  const out = Buffer.allocUnsafe(length)
  let at = writeText(out, 0, 0x0a, batch.collection)
  for (const { key, version, value } of batch.puts) {
    out[at] = 0x12
    at = writeVarint(out, at + 1, fieldLength(key.length) + fieldLength(version.length) + fieldLength(value.length))
    at = writeText(out, at, 0x0a, key)
    at = writeBytes(out, at, 0x12, version)
    at = writeBytes(out, at, 0x1a, value)
  }
  for (const key of batch.deletes) at = writeText(out, at, 0x1a, key)
  at = writeNumber(out, at, 0x20, batch.synced ? 1 : 0)
  if (batch.position !== '') writeText(out, at, 0x2a, batch.position)
  return out
}

/**
 * Throws FrameError for anything that is no well-formed batch within its bounds: names, keys and versions are checked, no
 * key is there twice. Versions and values are views of `body`.
 */
export function decodeStateBatch(body: Buffer): StateBatch {
  let collection = ''
  let position = ''
  let synced = false
  const puts: { readonly key: string, readonly version: Buffer, readonly value: Buffer }[] = []
  const deletes: string[] = []
  const keys = new Set<string>()
  const add = (key: string): string => {
    if (!isStateKey(key)) throw new FrameError('state batch: a key is malformed')
    if (keys.size >= stateChangesMax) throw new FrameError(`state batch: more than ${stateChangesMax} changes`)
    if (keys.has(key)) throw new FrameError(`state batch: key "${key}" twice`)
    keys.add(key)
    return key
  }
  const reader = new FieldReader(body, 'state batch')
  while (reader.next()) {
    switch (reader.field) {
      case 1: collection = reader.text(1, 63); break
      case 2: {
        const item = decodeItem(reader.message('state item', stateRawBytesMax))
        add(item.key)
        puts.push(item)
        break
      }
      case 3: deletes.push(add(reader.text(1, stateKeyBytesMax))); break
      case 4: synced = reader.number() !== 0; break
      case 5: position = reader.text(0, statePositionBytesMax); break
      default: throw reader.malformed()
    }
  }
  if (!isStateCollection(collection)) throw new FrameError(`state batch: "${collection}" is no collection's name`)
  return { collection, puts, deletes, synced, position }
}

const noBytes: Buffer = Buffer.alloc(0)

function decodeItem(reader: FieldReader): { key: string, version: Buffer, value: Buffer } {
  let key = ''
  let version: Buffer = noBytes
  let value: Buffer = noBytes
  while (reader.next()) {
    switch (reader.field) {
      case 1: key = reader.text(1, stateKeyBytesMax); break
      case 2: version = reader.bytes(1, stateVersionBytesMax); break
      case 3: value = reader.bytes(0, stateValueBytesMax); break
      default: throw reader.malformed()
    }
  }
  if (version.length === 0) throw new FrameError(`state item "${key}" has no version`)
  return { key, version, value }
}

/** Numbers of these frames in Frame of tunnel.proto. */
const inventoryField = 11
const changesField = 12

/** The bytes of a Frame that holds the message of so many bytes, and where the message begins. */
function frameAround(field: number, length: number): { out: Buffer, at: number } {
  const out = Buffer.allocUnsafe(1 + varintLength(length) + length)
  out[0] = field << 3 | 2
  return { out, at: writeVarint(out, 1, length) }
}

export function encodeStateInventory(frame: StateInventory): Buffer {
  const entryLength = (key: string, version: Buffer): number => fieldLength(key.length) + fieldLength(version.length)
  let length = fieldLength(frame.collection.length) + (frame.last ? 2 : 0)
  if (frame.after !== '') length += fieldLength(frame.after.length)
  for (const [key, version] of frame.entries) length += fieldLength(entryLength(key, version))
  const { out, at: start } = frameAround(inventoryField, length)
  let at = writeText(out, start, 0x0a, frame.collection)
  if (frame.after !== '') at = writeText(out, at, 0x12, frame.after)
  for (const [key, version] of frame.entries) {
    out[at] = 0x1a
    at = writeVarint(out, at + 1, entryLength(key, version))
    at = writeText(out, at, 0x0a, key)
    at = writeBytes(out, at, 0x12, version)
  }
  writeNumber(out, at, 0x20, frame.last ? 1 : 0)
  return out
}

export function encodeStateChanges(frame: StateChanges): Buffer {
  const { sequence, bodyLength, rawLength, position, data } = frame
  const length = numberLength(sequence) + numberLength(bodyLength) + numberLength(rawLength) + numberLength(position) +
    fieldLength(data.length)
  const { out, at: start } = frameAround(changesField, length)
  let at = writeNumber(out, start, 0x08, sequence)
  at = writeNumber(out, at, 0x10, bodyLength)
  at = writeNumber(out, at, 0x18, rawLength)
  at = writeNumber(out, at, 0x20, position)
  writeBytes(out, at, 0x2a, data)
  return out
}

/** Decodes the frames of State that are written by hand; undefined: the frame is none of these. Throws FrameError. */
export function decodeStateFrame(bytes: Buffer): StateInventory | StateChanges | undefined {
  const field = bytes.length === 0 ? 0 : bytes[0]! >> 3
  if (field !== inventoryField && field !== changesField) return undefined
  const frame = new FieldReader(bytes, 'state frame')
  frame.next()
  const what = field === inventoryField ? 'state inventory' : 'state changes'
  const message = frame.message(what, field === inventoryField ? inventoryBytesMax : bytes.length)
  if (frame.next()) throw frame.malformed()
  return field === inventoryField ? decodeInventory(message) : decodeChanges(message)
}

function decodeInventory(reader: FieldReader): StateInventory {
  let collection = ''
  let after = ''
  let last = false
  let newest = ''
  const entries: [string, Buffer][] = []
  while (reader.next()) {
    switch (reader.field) {
      case 1: collection = reader.text(1, 63); break
      case 2: newest = after = reader.text(1, stateKeyBytesMax); break
      case 3: {
        if (entries.length === inventoryEntriesMax) {
          throw new FrameError(`state inventory: more than ${inventoryEntriesMax} entries`)
        }
        const [key, version] = decodeEntry(reader.message('inventory entry', inventoryBytesMax))
        if (key <= newest) throw new FrameError(`state inventory: key "${key}" comes after "${newest}"`)
        newest = key
        entries.push([key, version])
        break
      }
      case 4: last = reader.number() !== 0; break
      default: throw reader.malformed()
    }
  }
  if (!isStateCollection(collection)) throw new FrameError(`state inventory: "${collection}" is no collection's name`)
  if (entries.length > 0 && entries[0]![0] <= after) throw reader.malformed()
  if (entries.length === 0 && !last) throw new FrameError('state inventory: a page without entries is not the last')
  return { kind: 'state-inventory', collection, after, entries, last }
}

function decodeEntry(reader: FieldReader): [key: string, version: Buffer] {
  let key = ''
  let version: Buffer = noBytes
  while (reader.next()) {
    switch (reader.field) {
      case 1: key = reader.text(1, stateKeyBytesMax); break
      case 2: version = reader.bytes(1, stateVersionBytesMax); break
      default: throw reader.malformed()
    }
  }
  if (!isStateKey(key) || version.length === 0) throw reader.malformed()
  return [key, version]
}

function decodeChanges(reader: FieldReader): StateChanges {
  let sequence = 0
  let bodyLength = 0
  let rawLength = 0
  let position = 0
  let data: Buffer = noBytes
  while (reader.next()) {
    switch (reader.field) {
      case 1: sequence = reader.number(); break
      case 2: bodyLength = reader.number(); break
      case 3: rawLength = reader.number(); break
      case 4: position = reader.number(); break
      case 5: data = reader.bytes(1, stateBodyBytesMax); break
      default: throw reader.malformed()
    }
  }
  if (bodyLength > stateBodyBytesMax || rawLength > stateRawBytesMax || data.length === 0 ||
    position + data.length > bodyLength) {
    throw new FrameError(`state changes: ${data.length} bytes at ${position} of ${bodyLength}, ${rawLength} decompressed; ` +
      `bounds ${stateBodyBytesMax} and ${stateRawBytesMax}`)
  }
  return { kind: 'state-changes', sequence, bodyLength, rawLength, position, data }
}
