import { formatTimestamp } from '@holdfast/runtime'
import type { Json, JsonObject } from '../object.ts'
import { protobufFields } from './protobuf-fields.ts'
import { badRequest, unknownBodyFormat } from './refusals.ts'

/** The media type of Kubernetes' protobuf: a magic number and a runtime.Unknown around the object's own message. */
export const protobufType = 'application/vnd.kubernetes.protobuf'

const magic = Buffer.from('k8s\0')
const kinds = new Set(['ConfigMap', 'Secret', 'Namespace', 'ServiceAccount', 'Service', 'Event', 'Lease', 'DeleteOptions'])

/**
 * Reads a body in Kubernetes' protobuf into the document that the same client would have sent as JSON. Throws 400 where it is
 * none, 415 for a kind that is taken as JSON only.
 */
export function parseProtobufBody(bytes: Buffer): JsonObject {
  if (!bytes.subarray(0, magic.length).equals(magic)) throw badRequest('the body is not Kubernetes protobuf')
  const { typeMeta, raw } = readMessage('Unknown', bytes.subarray(magic.length)) as unknown as
    { readonly typeMeta?: { readonly apiVersion?: string, readonly kind?: string }, readonly raw?: Buffer }
  const { apiVersion = '', kind = '' } = typeMeta ?? {}
  if (!kinds.has(kind)) throw unknownBodyFormat(['application/json'])
  return { apiVersion, kind, ...readMessage(kind, raw ?? Buffer.alloc(0)) }
}

class Reader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) { this.#bytes = bytes }

  get isAtEnd(): boolean { return this.#at >= this.#bytes.length }

  varint(): bigint {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#bytes[this.#at++]
      if (byte === undefined) break
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return BigInt.asIntN(64, value)
    }
    throw badRequest('the protobuf body ends inside a number')
  }

  /** Length-delimited bytes; they share memory with the body. */
  bytes(): Buffer {
    const length = Number(this.varint())
    if (length < 0 || length > this.#bytes.length - this.#at) throw badRequest('the protobuf body ends inside a field')
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }

  skip(wireType: number): void {
    switch (wireType) {
      case 0: this.varint(); break
      case 1: this.#at += 8; break
      case 2: this.bytes(); break
      case 5: this.#at += 4; break
      default: throw badRequest(`the protobuf body has a field of wire type ${wireType}`)
    }
  }
}

/** Types are not nested in themselves, so the depth is that of the table. */
function readMessage(name: string, bytes: Buffer): JsonObject {
  const fields = protobufFields[name]!
  const message: JsonObject = {}
  const reader = new Reader(bytes)
  while (!reader.isAtEnd) {
    const tag = Number(reader.varint())
    const [number, wireType] = [tag >>> 3, tag & 7]
    const field = fields[number]
    if (field === undefined) {
      reader.skip(wireType)
      continue
    }
    const [member, type] = field
    const isVarint = type === 'integer' || type === 'boolean'
    if (wireType !== (isVarint ? 0 : 2)) throw badRequest(`the protobuf body has ${name}.${member} with wire type ${wireType}`)
    if (isVarint) message[member] = type === 'integer' ? integer(reader.varint()) : reader.varint() !== 0n
    else readField(message, member, type, reader.bytes())
  }
  return message
}

function readField(message: JsonObject, member: string, type: string, bytes: Buffer): void {
  const shape = type.slice(0, 2)
  if (shape === '[]') {
    const list = message[member] as Json[] | undefined ?? []
    list.push(readValue(type.slice(2), bytes)!)
    message[member] = list
  } else if (shape === '{}') {
    const [key, value] = readEntry(type.slice(2), bytes)
    const map = message[member] as JsonObject | undefined ?? {}
    // A key such as __proto__ is data.
    Object.defineProperty(map, key, { value, enumerable: true, configurable: true, writable: true })
    message[member] = map
  } else {
    const value = readValue(type, bytes)
    if (value !== undefined) message[member] = value
  }
}

function readEntry(type: string, bytes: Buffer): [string, Json] {
  const reader = new Reader(bytes)
  let key = ''
  let value = ''
  while (!reader.isAtEnd) {
    const tag = Number(reader.varint())
    if (tag === (1 << 3 | 2)) key = text(reader.bytes())
    else if (tag === (2 << 3 | 2)) value = readValue(type, reader.bytes()) as string
    else reader.skip(tag & 7)
  }
  return [key, value]
}

/** Undefined: the zero time, which stands for none. */
function readValue(type: string, bytes: Buffer): Json | undefined {
  switch (type) {
    case 'string': return text(bytes)
    case 'bytes': return bytes.toString('base64')
    // Only the envelope has one; it is read again as what it names.
    case 'message': return bytes as unknown as Json
    case 'time': return time(bytes)?.replace(/\.\d+Z$/, 'Z')
    case 'micro-time': return time(bytes)?.replace(/\.(\d{3})Z$/, '.$1000Z')
    case 'int-or-string': {
      const { type: kind = 0, intVal = 0, strVal = '' } = readMessage('IntOrString', bytes)
      return kind === 0 ? intVal : strVal
    }
    default: return readMessage(type, bytes)
  }
}

/** Years that RFC 3339 can write. */
const secondsMax = 253_402_300_799

function time(bytes: Buffer): string | undefined {
  const { seconds = 0, nanos = 0 } = readMessage('Time', bytes) as { readonly seconds?: number, readonly nanos?: number }
  if (bytes.length === 0) return undefined
  if (Math.abs(seconds) > secondsMax) throw badRequest(`the protobuf body has a time of ${seconds} seconds`)
  return formatTimestamp(seconds * 1000 + Math.floor(nanos / 1_000_000))
}

function integer(value: bigint): number {
  const number = Number(value)
  if (!Number.isSafeInteger(number)) throw badRequest(`the protobuf body has the number ${value}, which is too large`)
  return number
}

function text(bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw badRequest('the protobuf body has a string that is not UTF-8')
  }
}
