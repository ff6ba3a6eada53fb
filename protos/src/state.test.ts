import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { StateBatchSchema } from '../gen/holdfast/v1/state_pb.ts'
import { FrameError } from './frame-error.ts'
import type { StateBatch } from './state.ts'
import { decodeStateBatch, encodeStateBatch, stateChangeBytes, stateChangesMax, stateValueBytesMax } from './state.ts'

const runs = { numRuns: Number(process.env['RUNS'] ?? 300), ...process.env['SEED'] !== undefined &&
  { seed: Number(process.env['SEED']) } }
const bytes = (text: string): Buffer => Buffer.from(text)
const put = (key: string, value = 'value'): StateBatch['puts'][number] => ({ key, version: bytes('v'), value: bytes(value) })
const batch: StateBatch = {
  collection: 'configmaps', puts: [put('default/a'), put('default/b', '')], deletes: ['default/c'], synced: true, position: 'c=9'
}

const key = fc.string({ unit: fc.integer({ min: 0x21, max: 0x7e }).map(code => String.fromCharCode(code)), minLength: 1,
  maxLength: 60 })
const anyBatch = fc.record({
  collection: fc.constantFrom('pods', 'a', 'node-status'),
  items: fc.uniqueArray(fc.tuple(key, fc.uint8Array({ minLength: 1, maxLength: 64 }), fc.uint8Array({ maxLength: 300 })),
    { selector: ([name]) => name, maxLength: 20 }),
  cut: fc.nat(20),
  position: fc.option(fc.constantFrom('', 'pods=1'), { nil: undefined })
}).map(({ collection, items, cut, position }): StateBatch => ({
  collection,
  puts: items.slice(cut).map(([name, version, value]) => ({ key: name, version: Buffer.from(version), value: Buffer.from(value) })),
  deletes: items.slice(0, cut).map(([name]) => name),
  synced: cut % 2 === 0,
  position: position ?? ''
}))

test('a batch comes back as it was encoded', () => {
  expect(decodeStateBatch(encodeStateBatch(batch))).toEqual(batch)
  fc.assert(fc.property(anyBatch, each => { expect(decodeStateBatch(encodeStateBatch(each))).toEqual(each) }), runs)
})

test('a batch is the message that the schema names', () => {
  fc.assert(fc.property(anyBatch, each => {
    const wire = fromBinary(StateBatchSchema, encodeStateBatch(each))
    const puts = wire.puts.map(item => ({ key: item.key, version: Buffer.from(item.version), value: Buffer.from(item.value) }))
    const { collection, deletes, synced, position } = wire
    expect({ collection, puts, deletes, synced, position }).toEqual(each)
    expect(decodeStateBatch(Buffer.from(toBinary(StateBatchSchema, create(StateBatchSchema, wire))))).toEqual(each)
  }), runs)
})

test('the bytes of a change are counted before it is encoded', () => {
  const empty: StateBatch = { collection: 'c', puts: [], deletes: [], synced: false, position: '' }
  const { length } = encodeStateBatch(empty)
  const item = put('default/a', 'x'.repeat(200))
  expect(encodeStateBatch({ ...empty, puts: [item] }).length - length).toBe(stateChangeBytes(item.key, item.version, item.value))
  expect(encodeStateBatch({ ...empty, deletes: ['default/a'] }).length - length).toBe(stateChangeBytes('default/a'))
})

test('damaged bytes give a batch or a FrameError, nothing else', () => {
  fc.assert(fc.property(anyBatch, fc.nat(), fc.nat({ max: 255 }), fc.nat(), (each, where, value, cut) => {
    const body = encodeStateBatch(each)
    body[where % body.length] = value
    for (const damaged of [body, body.subarray(0, cut % body.length)]) {
      try {
        decodeStateBatch(damaged)
      } catch (error) {
        expect(error).toBeInstanceOf(FrameError)
      }
    }
  }), runs)
})

test.each<[string, StateBatch]>([
  ['no collection', { ...batch, collection: '' }],
  ['a collection without a proper name', { ...batch, collection: 'Pods' }],
  ['a key twice', { ...batch, puts: [put('a'), put('a')] }],
  ['a key that is put and deleted', { ...batch, puts: [put('a')], deletes: ['a'] }],
  ['a key with a space', { ...batch, deletes: ['a b'] }],
  ['a key above its bound', { ...batch, deletes: ['k'.repeat(513)] }],
  ['an empty key', { ...batch, deletes: [''] }],
  ['an item without a version', { ...batch, puts: [{ ...put('a'), version: Buffer.alloc(0) }] }],
  ['a version above its bound', { ...batch, puts: [{ ...put('a'), version: Buffer.alloc(65) }] }],
  ['a value above its bound', { ...batch, puts: [{ ...put('a'), value: Buffer.alloc(stateValueBytesMax + 1) }] }],
  ['more changes than the bound', { ...batch, deletes: Array.from({ length: stateChangesMax + 1 }, (_, i) => `k${i}`) }],
  ['a position above its bound', { ...batch, position: 'p'.repeat(513) }]
])('a batch with %s is refused', (_what, wrong) => {
  expect(() => decodeStateBatch(encodeStateBatch(wrong))).toThrow(FrameError)
})
