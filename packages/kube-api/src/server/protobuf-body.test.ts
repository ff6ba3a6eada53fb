import { expect, test } from 'vitest'
import fc from 'fast-check'
import { StatusError } from '../status-error.ts'
import { parseProtobufBody } from './protobuf-body.ts'

const varint = (value: number): number[] => value < 0x80 ? [value] : [value & 0x7f | 0x80, ...varint(Math.floor(value / 128))]
const field = (number: number, content: Uint8Array | string): Buffer =>
  Buffer.concat([Buffer.from([...varint(number << 3 | 2), ...varint(Buffer.byteLength(content))]), Buffer.from(content)])
const number = (of: number, value: number): Buffer => Buffer.from([...varint(of << 3), ...varint(value)])

function body(apiVersion: string, kind: string, ...message: readonly Buffer[]): Buffer {
  const typeMeta = Buffer.concat([field(1, apiVersion), field(2, kind)])
  return Buffer.concat([Buffer.from('k8s\0'), field(1, typeMeta), field(2, Buffer.concat(message)), field(3, ''), field(4, '')])
}

test('a ConfigMap as kubectl 1.32 sends it', () => {
  // kubectl create configmap x --from-literal=a=1
  const sent = 'k8s\0\n\x0f\n\x02v1\x12\tConfigMap\x12\x1b\n\x11\n\x01x\x12\0\x1a\0"\0*\x002\x008\0B\0\x12\x06\n\x01a\x12\x011\x1a\0"\0'
  expect(parseProtobufBody(Buffer.from(sent, 'latin1'))).toEqual({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'x', generateName: '', namespace: '', uid: '', resourceVersion: '', generation: 0 },
    data: { a: '1' }
  })
})

test('lists, maps, bytes, times, numbers and references', () => {
  const owner = Buffer.concat([field(1, 'Node'), field(3, 'n'), field(4, 'u'), field(5, 'v1'), number(6, 1), number(99, 7)])
  const time = Buffer.concat([number(1, 1_700_000_000), number(2, 5_000_000)])
  const metadata = field(1, Buffer.concat([
    field(1, 'x'), field(8, time), field(11, Buffer.concat([field(1, '__proto__'), field(2, 'y')])), field(13, owner),
    field(14, 'a/b'), field(14, 'c/d')
  ]))
  expect(JSON.parse(JSON.stringify(parseProtobufBody(body('v1', 'Secret', metadata,
    field(2, Buffer.concat([field(1, 'k'), field(2, Buffer.from([0, 255]))])), number(5, 0)))))).toEqual({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      name: 'x', creationTimestamp: '2023-11-14T22:13:20Z', labels: JSON.parse('{"__proto__":"y"}') as unknown, finalizers: ['a/b', 'c/d'],
      ownerReferences: [{ kind: 'Node', name: 'n', uid: 'u', apiVersion: 'v1', controller: true }]
    },
    data: { k: 'AP8=' },
    immutable: false
  })
  const port = (target: Buffer): Buffer => field(2, field(1, Buffer.concat([number(3, 80), field(4, target)])))
  expect(parseProtobufBody(body('v1', 'Service', port(Buffer.concat([number(1, 0), number(2, 8080)])))))
    .toMatchObject({ spec: { ports: [{ port: 80, targetPort: 8080 }] } })
  expect(parseProtobufBody(body('v1', 'Service', port(Buffer.concat([number(1, 1), field(3, 'http')])))))
    .toMatchObject({ spec: { ports: [{ targetPort: 'http' }] } })
  expect(parseProtobufBody(body('coordination.k8s.io/v1', 'Lease', field(2, field(4, time)))))
    .toMatchObject({ spec: { renewTime: '2023-11-14T22:13:20.005000Z' } })
})

test('what is not protobuf is a bad request, what is not in the table is another media type', () => {
  expect(() => parseProtobufBody(Buffer.from('{"kind":"ConfigMap"}'))).toThrow(expect.objectContaining({ code: 400 }) as Error)
  expect(() => parseProtobufBody(body('v1', 'Pod'))).toThrow(expect.objectContaining({ code: 415 }) as Error)
})

test('damaged bodies are refused, never anything else', () => {
  const good = body('v1', 'ConfigMap', field(1, field(1, 'x')), field(2, Buffer.concat([field(1, 'k'), field(2, 'v')])))
  fc.assert(fc.property(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 5 }), fc.nat(good.length), (flips, cut) => {
    const damaged = Buffer.from(good)
    for (const [at, byte] of flips) damaged[at] = byte
    try {
      parseProtobufBody(damaged.subarray(0, cut))
    } catch (error) {
      expect(error).toBeInstanceOf(StatusError)
    }
  }), { numRuns: 500 })
})
