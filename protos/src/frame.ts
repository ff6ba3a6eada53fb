import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { FrameSchema } from '../gen/holdfast/v1/tunnel_pb.ts'
import type {
  CollectionDigest as WireDigest, CollectionVerdict as WireVerdict, Frame as WireFrame, Watermark as WireWatermark
} from '../gen/holdfast/v1/tunnel_pb.ts'
import { FrameError } from './frame-error.ts'
import type { BootId, Epoch } from './ids.ts'
import { parseBootId, parseEpoch } from './ids.ts'
import type {
  CollectionDigest, CollectionVerdict, StateAck, StateChanges, StateDigestFrame, StateInventory, StateVerdictFrame
} from './state.ts'
import {
  decodeStateFrame, encodeStateChanges, encodeStateInventory, isStateCollection, isStateKey, isStatePosition,
  stateCollectionsMax, stateControlBytesMax, stateDigestBytes, stateVerdicts
} from './state.ts'

/** WebSocket subprotocol of the tunnel. */
export const tunnelSubprotocol = 'holdfast.v1'
export const tunnelPath = '/v1/tunnel'

/**
 * Protocol versions, oldest first. A change of the .proto files that a peer can notice adds a line; the schema-hash
 * test asks for it.
 */
export const protocolHistory = [
  { version: 1, what: 'Log upwards: batches, parts, cumulative acknowledgements' },
  { version: 2, what: 'State both ways: digests, verdicts, inventories, batches of changes' }
] as const
export const protocolMin = 1
export const protocolMax = 2
/** The first version with State; a peer of an older one is served the Log only. */
export const stateProtocolMin = 2

/** No frame is larger: `maxPayload` of both WebSocket ends. */
export const frameBytesMax = 1024 * 1024
/** Bounds of Hello, so that no peer makes the other hold more. */
export const lanesMax = 64
export const epochsPerLaneMax = 4096

export interface HelloEpoch {
  readonly epoch: Epoch
  /** Undefined for the first epoch of a lane. */
  readonly predecessor: Epoch | undefined
  /** Offset of the epoch's first record ever. */
  readonly start: number
  /** Oldest offset still held. */
  readonly first: number
  /** One past the newest. */
  readonly next: number
  readonly reason: EpochReason
}

export const epochReasons = ['started', 'salvaged', 're-identified'] as const
/** Why an epoch began: a start of the daemon, a start after losing data, or a diverged lane. */
export type EpochReason = (typeof epochReasons)[number]

export interface HelloLane {
  readonly id: number
  readonly name: string
  /** Oldest first; only the last grows. */
  readonly epochs: readonly HelloEpoch[]
}

export interface Hello {
  readonly kind: 'hello'
  readonly protocolMin: number
  readonly protocolMax: number
  readonly bootId: BootId
  /** Counts the connections of this boot, from 1. */
  readonly connectCounter: number
  /** As seen last; empty on a first connection. */
  readonly clusterUid: string
  readonly logId: string
  readonly wallMs: number
  readonly uptimeMs: number
  readonly clockSynchronised: boolean
  readonly lanes: readonly HelloLane[]
  readonly software: string
  /** Of the collections that come down, as far as the edge can tell. */
  readonly stateDigests: readonly CollectionDigest[]
}

/** The cloud durably holds everything below `next` of this epoch. */
export interface Watermark {
  readonly lane: number
  readonly epoch: Epoch
  readonly next: number
  /** Header CRC of the batch that ends at `next`; 0: the cloud knows none. */
  readonly crc: number
}

export interface Welcome {
  readonly kind: 'welcome'
  readonly protocol: number
  readonly clusterUid: string
  readonly logId: string
  readonly wallMs: number
  readonly watermarks: readonly Watermark[]
  /** Bytes of Log frames that may be unacknowledged. */
  readonly windowBytes: number
  readonly software: string
  /** On the digests in Hello. */
  readonly stateVerdicts: readonly CollectionVerdict[]
  /** Of the collections that go up, as far as the cloud can tell. */
  readonly stateDigests: readonly CollectionDigest[]
}

export interface Refuse {
  readonly kind: 'refuse'
  readonly code: string
  readonly message: string
  /** Milliseconds not to come back in; 0: the receiver's own back-off decides. */
  readonly retryAfterMs: number
}

export interface LogBatches {
  readonly kind: 'log-batches'
  /** Length of `batches` before compression; 0: not compressed. */
  readonly rawLength: number
  readonly batches: Buffer
}

export interface LogPart {
  readonly kind: 'log-part'
  readonly lane: number
  readonly batchLength: number
  readonly position: number
  readonly data: Buffer
}

export interface LogAck {
  readonly kind: 'log-ack'
  readonly watermarks: readonly Watermark[]
  /** Bytes of parts that arrived since the last LogAck and did not complete their batch: they are in flight no more. */
  readonly partBytes: number
}
export interface Probe { readonly kind: 'probe', readonly nonce: number }
export interface ProbeReply { readonly kind: 'probe-reply', readonly nonce: number }

export type StateFrame = StateDigestFrame | StateVerdictFrame | StateInventory | StateChanges | StateAck
export type Frame = Hello | Welcome | Refuse | LogBatches | LogPart | LogAck | Probe | ProbeReply | StateFrame

export function encodeFrame(frame: Frame): Buffer {
  if (frame.kind === 'state-changes') return encodeStateChanges(frame)
  if (frame.kind === 'state-inventory') return encodeStateInventory(frame)
  const bytes = toBinary(FrameSchema, create(FrameSchema, { body: toWire(frame) }))
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}

type WireBody = NonNullable<Parameters<typeof create<typeof FrameSchema>>[1]>['body'] & object

function toWire(frame: Exclude<Frame, StateChanges | StateInventory>): WireBody {
  switch (frame.kind) {
    case 'hello': return { case: 'hello', value: {
      ...frame,
      wallMs: BigInt(Math.floor(frame.wallMs)),
      uptimeMs: BigInt(Math.floor(frame.uptimeMs)),
      stateDigests: [...frame.stateDigests],
      lanes: frame.lanes.map(lane => ({
        id: lane.id,
        name: lane.name,
        epochs: lane.epochs.map(epoch => ({
          epoch: epoch.epoch,
          predecessor: epoch.predecessor ?? '',
          start: BigInt(epoch.start),
          first: BigInt(epoch.first),
          next: BigInt(epoch.next),
          reason: epoch.reason
        }))
      }))
    } }
    case 'welcome': return { case: 'welcome', value: {
      ...frame,
      wallMs: BigInt(Math.floor(frame.wallMs)),
      watermarks: frame.watermarks.map(toWireWatermark),
      stateVerdicts: [...frame.stateVerdicts],
      stateDigests: [...frame.stateDigests]
    } }
    case 'refuse': return { case: 'refuse', value: frame }
    case 'log-batches': return { case: 'logBatches', value: frame }
    case 'log-part': return { case: 'logPart', value: frame }
    case 'log-ack': return { case: 'logAck', value: { watermarks: frame.watermarks.map(toWireWatermark), partBytes: frame.partBytes } }
    case 'probe': return { case: 'probe', value: { nonce: BigInt(frame.nonce) } }
    case 'probe-reply': return { case: 'probeReply', value: { nonce: BigInt(frame.nonce) } }
    case 'state-digest': return { case: 'stateDigest', value: { digests: [...frame.digests] } }
    case 'state-verdict': return { case: 'stateVerdict', value: { verdicts: [...frame.verdicts] } }
    case 'state-ack': return { case: 'stateAck', value: {
      sequence: BigInt(frame.sequence), receivedBytes: BigInt(frame.receivedBytes), refused: frame.refused
    } }
  }
}

function toWireWatermark(watermark: Watermark): { lane: number, epoch: string, next: bigint, crc: number } {
  return { lane: watermark.lane, epoch: watermark.epoch, next: BigInt(watermark.next), crc: watermark.crc }
}

/** Throws FrameError for anything that is no well-formed frame within its bounds. */
export function decodeFrame(bytes: Uint8Array): Frame {
  if (bytes.length > frameBytesMax) throw new FrameError(`frame of ${bytes.length} bytes, bound ${frameBytesMax}`)
  const state = decodeStateFrame(asBuffer(bytes))
  if (state !== undefined) return state
  if (bytes.length > stateControlBytesMax && stateControlTags.has(bytes[0]!)) {
    throw new FrameError(`frame of ${bytes.length} bytes that tells of State, bound ${stateControlBytesMax}`)
  }
  let wire: WireFrame
  try {
    wire = fromBinary(FrameSchema, bytes)
  } catch (error) {
    throw new FrameError(`frame: ${(error as Error).message}`)
  }
  const body = wire.body
  switch (body.case) {
    case 'hello': {
      const value = body.value
      if (value.lanes.length > lanesMax) throw new FrameError(`hello: ${value.lanes.length} lanes, bound ${lanesMax}`)
      return {
        kind: 'hello',
        protocolMin: value.protocolMin,
        protocolMax: value.protocolMax,
        bootId: required(parseBootId(value.bootId), 'hello: boot id'),
        connectCounter: value.connectCounter,
        clusterUid: bounded(value.clusterUid),
        logId: bounded(value.logId),
        wallMs: Number(value.wallMs),
        uptimeMs: safe(value.uptimeMs),
        clockSynchronised: value.clockSynchronised,
        software: bounded(value.software),
        stateDigests: fromWireDigests(value.stateDigests),
        lanes: value.lanes.map(lane => {
          if (lane.id > 0xffff) throw new FrameError(`hello: lane id ${lane.id}`)
          if (!laneNamePattern.test(lane.name)) throw new FrameError(`hello: lane name "${lane.name.slice(0, 80)}"`)
          if (lane.epochs.length > epochsPerLaneMax) {
            throw new FrameError(`hello: ${lane.epochs.length} epochs in lane ${lane.name}, bound ${epochsPerLaneMax}`)
          }
          return { id: lane.id, name: lane.name, epochs: lane.epochs.map(epoch => {
            const out: HelloEpoch = {
              epoch: required(parseEpoch(epoch.epoch), 'hello: epoch'),
              predecessor: epoch.predecessor === '' ? undefined : required(parseEpoch(epoch.predecessor), 'hello: predecessor'),
              start: safe(epoch.start),
              first: safe(epoch.first),
              next: safe(epoch.next),
              reason: required(epochReasons.find(known => known === epoch.reason), 'hello: epoch reason')
            }
            if (out.start > out.first || out.first > out.next) {
              throw new FrameError(`hello: epoch ${out.epoch} has start ${out.start}, first ${out.first}, next ${out.next}`)
            }
            return out
          }) }
        })
      }
    }
    case 'welcome': {
      const value = body.value
      return {
        kind: 'welcome',
        protocol: value.protocol,
        clusterUid: bounded(value.clusterUid),
        logId: bounded(value.logId),
        wallMs: Number(value.wallMs),
        watermarks: value.watermarks.map(fromWireWatermark),
        windowBytes: value.windowBytes,
        software: bounded(value.software),
        stateVerdicts: fromWireVerdicts(value.stateVerdicts),
        stateDigests: fromWireDigests(value.stateDigests)
      }
    }
    case 'refuse': return {
      kind: 'refuse',
      code: bounded(body.value.code),
      message: bounded(body.value.message),
      retryAfterMs: body.value.retryAfterMs
    }
    case 'logBatches': return { kind: 'log-batches', rawLength: body.value.rawLength, batches: asBuffer(body.value.batches) }
    case 'logPart': return {
      kind: 'log-part',
      lane: body.value.lane,
      batchLength: body.value.batchLength,
      position: body.value.position,
      data: asBuffer(body.value.data)
    }
    case 'logAck': return {
      kind: 'log-ack',
      watermarks: body.value.watermarks.map(fromWireWatermark),
      partBytes: body.value.partBytes
    }
    case 'probe': return { kind: 'probe', nonce: safe(body.value.nonce) }
    case 'probeReply': return { kind: 'probe-reply', nonce: safe(body.value.nonce) }
    case 'stateDigest': return { kind: 'state-digest', digests: fromWireDigests(body.value.digests) }
    case 'stateVerdict': return { kind: 'state-verdict', verdicts: fromWireVerdicts(body.value.verdicts) }
    case 'stateAck': return {
      kind: 'state-ack',
      sequence: safe(body.value.sequence),
      receivedBytes: safe(body.value.receivedBytes),
      refused: bounded(body.value.refused)
    }
    case 'stateInventory':
    case 'stateChanges': throw new FrameError(`${body.case} behind something else`)
    case undefined: throw new FrameError('frame of a kind that this release does not know')
  }
}

/** First bytes of StateDigest, StateVerdict and StateAck frames. */
const stateControlTags: ReadonlySet<number> = new Set([9, 10, 13].map(field => field << 3 | 2))

function fromWireDigests(digests: readonly WireDigest[]): CollectionDigest[] {
  return eachOnce('digests', digests).map(({ collection, digest, position }) => {
    if (digest.length !== stateDigestBytes || !isStatePosition(position)) {
      throw new FrameError(`digest of collection ${collection} is malformed`)
    }
    return { collection, digest: asBuffer(digest), position }
  })
}

function fromWireVerdicts(verdicts: readonly WireVerdict[]): CollectionVerdict[] {
  return eachOnce('verdicts', verdicts).map(({ collection, verdict, after }) => {
    if (after !== '' && !isStateKey(after)) throw new FrameError(`verdict on collection ${collection} is malformed`)
    return { collection, verdict: required(stateVerdicts.find(known => known === verdict), 'verdict'), after }
  })
}

function eachOnce<T extends { readonly collection: string }>(what: string, items: readonly T[]): readonly T[] {
  if (items.length > stateCollectionsMax) throw new FrameError(`${items.length} ${what}, bound ${stateCollectionsMax}`)
  if (new Set(items.map(({ collection }) => collection)).size !== items.length) throw new FrameError(`${what}: one is there twice`)
  if (!items.every(({ collection }) => isStateCollection(collection))) {
    throw new FrameError(`${what}: a collection's name is malformed`)
  }
  return items
}

/** A lane's name: what `edgecore.yaml` calls it. */
export const laneNamePattern = /^[a-z][a-z0-9-]{0,62}$/

function fromWireWatermark(wire: WireWatermark): Watermark {
  return {
    lane: wire.lane,
    epoch: required(parseEpoch(wire.epoch), 'watermark: epoch'),
    next: safe(wire.next),
    crc: wire.crc
  }
}

function required<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new FrameError(`${what} is malformed`)
  return value
}

function safe(value: bigint): number {
  const number = Number(value)
  if (!Number.isSafeInteger(number) || number < 0) throw new FrameError(`number ${value} is out of range`)
  return number
}

function bounded(text: string): string {
  if (text.length > 1024) throw new FrameError(`text of ${text.length} characters, bound 1024`)
  return text
}

function asBuffer(bytes: Uint8Array): Buffer { return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length) }
