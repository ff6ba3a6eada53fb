import { tables } from '@holdfast/store'

/**
 * Keys and values of the broker's tables (docs/storage.md). Keys: table id, then the client id behind its length (two
 * bytes), then fixed-width fields; so that no client id is a prefix of another's keys. Values begin with a format version.
 */
const format = 1

type BrokerTable = Extract<keyof typeof tables, `broker${string}`>

export interface StoredMessage {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: 0 | 1 | 2
  readonly retain: boolean
  /** Packet identifier; 0: none yet. */
  readonly messageId: number
  /** True where PUBREC has been received: PUBREL is what comes next. */
  readonly released: boolean
}

/** First key of a table, and the end of it. */
export function tableRange(table: BrokerTable): { readonly gte: Buffer, readonly lt: Buffer } {
  return { gte: Buffer.from([tables[table]]), lt: Buffer.from([tables[table] + 1]) }
}

export function retainedKey(topic: string): Buffer {
  return Buffer.concat([Buffer.from([tables.brokerRetained]), Buffer.from(topic)])
}

export function topicOfRetainedKey(key: Buffer): string { return key.toString('utf8', 1) }

export function clientKey(table: BrokerTable, clientId: string, rest: Buffer = Buffer.alloc(0)): Buffer {
  const id = Buffer.from(clientId)
  const key = Buffer.allocUnsafeSlow(3 + id.length + rest.length)
  key[0] = tables[table]
  key.writeUInt16BE(id.length, 1)
  id.copy(key, 3)
  rest.copy(key, 3 + id.length)
  return key
}

export function readClientKey(key: Buffer): { readonly clientId: string, readonly rest: Buffer } {
  const length = key.readUInt16BE(1)
  return { clientId: key.toString('utf8', 3, 3 + length), rest: key.subarray(3 + length) }
}

export function uint16(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(2)
  bytes.writeUInt16BE(value)
  return bytes
}

export function uint64(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(8)
  bytes.writeBigUInt64BE(BigInt(value))
  return bytes
}

/** Version, flags (QoS, retain, released), packet id, topic length, topic, payload. */
export function encodeMessage(message: Omit<StoredMessage, 'payload'> & { readonly payload: string | Uint8Array }): Buffer {
  const topic = Buffer.from(message.topic)
  const payload = typeof message.payload === 'string' ? Buffer.from(message.payload) : message.payload
  const value = Buffer.allocUnsafeSlow(6 + topic.length + payload.length)
  value[0] = format
  value[1] = message.qos | (message.retain ? 4 : 0) | (message.released ? 8 : 0)
  value.writeUInt16BE(message.messageId, 2)
  value.writeUInt16BE(topic.length, 4)
  topic.copy(value, 6)
  value.set(payload, 6 + topic.length)
  return value
}

/** Undefined where the value is damaged or of another format. The payload is a view. */
export function decodeMessage(value: Buffer): StoredMessage | undefined {
  if (value.length < 6 || value[0] !== format) return undefined
  const topicEnd = 6 + value.readUInt16BE(4)
  const qos = value[1]! & 3
  if (topicEnd > value.length || (qos !== 0 && qos !== 1 && qos !== 2)) return undefined
  return {
    topic: value.toString('utf8', 6, topicEnd), payload: value.subarray(topicEnd), qos,
    retain: (value[1]! & 4) !== 0, released: (value[1]! & 8) !== 0, messageId: value.readUInt16BE(2)
  }
}

/** Version and JSON: for what is written rarely. */
export function encodeJson(value: unknown): Buffer {
  return Buffer.concat([Buffer.from([format]), Buffer.from(JSON.stringify(value))])
}

/** Undefined where the value is damaged or of another format. */
export function decodeJson(value: Buffer): unknown {
  if (value[0] !== format) return undefined
  try {
    return JSON.parse(value.toString('utf8', 1)) as unknown
  } catch {
    return undefined
  }
}

/** Version and the hash of topic and payload. */
export function encodeMarker(hash: string): Buffer {
  return Buffer.concat([Buffer.from([format]), Buffer.from(hash, 'latin1')])
}

export function decodeMarker(value: Buffer): string | undefined {
  return value[0] === format && value.length > 1 ? value.toString('latin1', 1) : undefined
}
