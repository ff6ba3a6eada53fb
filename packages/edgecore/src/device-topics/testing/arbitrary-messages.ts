import { readFileSync } from 'node:fs'
import fc from 'fast-check'

export interface ArbitraryMessage {
  readonly topic: string
  readonly payload: Buffer
}

export interface CorpusEntry {
  readonly topic: string
  /** Base64. */
  readonly payload: string
  /** `done`, the code of the error that it is answered with, or `ignored`. */
  readonly outcome: 'done' | 'ignored' | 400 | 404
}

/** One message of each kind that behaves in a way of its own, found by these arbitraries or thought of. */
export const corpus = JSON.parse(readFileSync(new URL('corpus.json', import.meta.url), 'utf8')) as readonly CorpusEntry[]

/** Devices of the fixture: with a model, without one, of namespace default; then ones that are not there. */
const known = ['plant/s1', 'plant/s2', 'plug', 'default/plug']
const ids = [...known, ...known, ...known, 'plant/gone', 'Plant/_', 'device', '/', 'a/b', '__proto__/x']
const propertyNames = [
  'temperature', 'target', 'on', 'text', 'blob', 'p', 'q', '', '__proto__', 'constructor', 'toString', 'length', 'a b', 'ü✓𝄞',
  '\u0000', '\ud800', 'x'.repeat(253), 'x'.repeat(254), '1', '-0'
]
const texts = [
  '1', '-1', '1e3', '1e999', '0x10', '023', ' 1', 'true', 'TRUE', '', '日本語', '\ud800', 'NaN', 'Infinity', '{"a":1}', '[]', 'null', '"',
  '9007199254740993', '-0', '85', '86', '-41', 'QUJD', 'QUJ', 'x'.repeat(70), '\u0000', '\u202e'
]
/** Written as it stands, where JSON.stringify would not write it. */
const rawMark = '@raw:'
const raws = ['1e999', '-1e999', '1.0000000000000000000001', '-0', '"\\ud800"', '{"__proto__":{"x":1}}', '[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]',
  '{"a":{"b":{"c":{"d":{"e":{"f":{"g":{"h":{"i":{"j":{"k":{"l":{"m":{"n":{"o":{"p":{"q":1}}}}}}}}}}}}}}}}}']

const any = fc.oneof(
  { weight: 5, arbitrary: fc.constantFrom(...texts) },
  { weight: 2, arbitrary: fc.constantFrom<unknown>(null, true, false, 0, -1, 1.5, 1e300, 2 ** 53, [], {}, [1], { value: '1' }) },
  { weight: 1, arbitrary: fc.constantFrom(...raws).map(raw => rawMark + raw) },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) }
)
const timestamp = fc.oneof(fc.constantFrom<unknown>(0, 1, 1_700_000_000_000, 1_900_000_000_000, -5, 1.5, '0', null, {}), any)

/** Mostly `usual`, sometimes anything, sometimes nothing. */
function mostly(usual: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  return fc.oneof({ weight: 12, arbitrary: usual }, { weight: 1, arbitrary: any }, { weight: 1, arbitrary: fc.constant(undefined) })
}

const metadata = (of: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> => fc.oneof(
  { weight: 3, arbitrary: fc.constant(undefined) }, { weight: 3, arbitrary: of }, { weight: 1, arbitrary: any }
)
const value = mostly(fc.record({
  value: fc.oneof({ weight: 4, arbitrary: fc.constantFrom<unknown>(...texts) }, { weight: 1, arbitrary: any }),
  metadata: metadata(fc.record({ timestamp }))
}))
const property = fc.oneof(
  { weight: 1, arbitrary: fc.constant(null) },
  { weight: 1, arbitrary: any },
  { weight: 10, arbitrary: fc.record({
    actual: value,
    expected: fc.oneof({ weight: 2, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: value }),
    optional: fc.constantFrom(true, false, undefined),
    metadata: metadata(fc.record({ type: fc.oneof(
      fc.constantFrom<unknown>('string', 'int', 'integer', 'float', 'boolean', 'deleted', '', 'INT', 'colour', 'constructor'), any
    ) }))
  }) }
)
const twin = mostly(fc.array(fc.tuple(fc.constantFrom(...propertyNames), property), { maxLength: 3 }).map(Object.fromEntries))
const eventId = fc.oneof({ weight: 6, arbitrary: fc.constantFrom<unknown>('e1', '', '✓', 'x'.repeat(256), undefined) }, {
  weight: 1, arbitrary: fc.constantFrom<unknown>('x'.repeat(257), 7, null, {}, '\ud800')
})

const requests: readonly (readonly [topic: fc.Arbitrary<string>, body: fc.Arbitrary<object>, weight: number])[] = [
  [deviceTopic('twin/update'), fc.record({ event_id: eventId, timestamp: fc.option(timestamp, { nil: undefined }), twin }), 12],
  [deviceTopic('twin/get'), fc.record({ event_id: eventId, timestamp: fc.option(timestamp, { nil: undefined }) }), 2],
  [deviceTopic('state/update'), fc.record({
    event_id: eventId, timestamp: fc.option(timestamp, { nil: undefined }),
    state: fc.oneof(fc.constantFrom('online', 'offline', 'ok', 'unknown', 'unhealthy', 'Online', 'constructor'), any)
  }), 4],
  [fc.constantFrom('edge-1', 'edge-2', '', 'edge').map(node => `$hw/events/node/${node}/membership/get`), fc.record({ event_id: eventId }), 1]
]

function deviceTopic(request: string): fc.Arbitrary<string> {
  return fc.constantFrom(...ids).map(id => `$hw/events/device/${id}/${request}`)
}

/** JSON of the right shape with wrong insides, as a rule; anything else, as an exception. */
export const arbitraryMessages: fc.Arbitrary<ArbitraryMessage> = fc.oneof(
  ...requests.map(([topic, body, weight]) => ({
    weight: 4 * weight, arbitrary: fc.record({ topic, payload: body.map(bytesOf) })
  })),
  { weight: 4, arbitrary: fc.constantFrom(...corpus).map(({ topic, payload }) => ({ topic, payload: Buffer.from(payload, 'base64') })) },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom(...corpus), fc.nat(), fc.nat(255)).map(([{ topic, payload }, at, byte]) => {
    const bytes = Buffer.from(payload, 'base64')
    if (bytes.length > 0) bytes[at % bytes.length] = byte
    return { topic, payload: bytes }
  }) },
  { weight: 1, arbitrary: fc.record({
    topic: deviceTopic('twin/update'), payload: fc.oneof(fc.uint8Array({ maxLength: 40 }).map(bytes => Buffer.from(bytes)), any.map(bytesOf))
  }) },
  { weight: 1, arbitrary: fc.record({
    topic: fc.array(fc.constantFrom('$hw', 'events', 'device', 'node', 'twin', 'update', 'get', 'membership', 'state', 'x', '', 'result'), {
      maxLength: 9
    }).map(levels => levels.join('/')),
    payload: fc.constant(Buffer.from('{"event_id":"e1","twin":{"p":null},"state":"ok"}'))
  }) }
)

function bytesOf(body: unknown): Buffer {
  const text = JSON.stringify(body) as string | undefined
  return Buffer.from((text ?? '').replace(/"@raw:((?:[^"\\]|\\.)*)"/g, (_all, raw: string) => JSON.parse(`"${raw}"`) as string))
}
