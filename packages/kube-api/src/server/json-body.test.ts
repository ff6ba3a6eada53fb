import { expect, test } from 'vitest'
import { StatusError } from '../status-error.ts'
import { parseJsonBody } from './json-body.ts'

const parse = (text: string) => parseJsonBody(Buffer.from(text), 'body')

test('doubled members are named by their paths, and the last value counts', () => {
  expect(parse('{"data":{"a":"1","b":{},"a":"2"},"list":[{"x":1},{"y":"}","y":"\\"","y":0}],"data2":[],"\\u0064ata2":1}'))
    .toEqual({
      document: { data: { a: '2', b: {} }, list: [{ x: 1 }, { y: 0 }], data2: 1 },
      duplicates: ['data.a', 'list[1].y', 'list[1].y', 'data2']
    })
  expect(parse('[{"a":{"a":{"a":[]}}},{"a":1}]').duplicates).toEqual([])
})

test('what is not JSON, not UTF-8 or too deep is a bad request', () => {
  for (const body of [Buffer.from('{"a":'), Buffer.alloc(0), Buffer.from([0x22, 0xff, 0x22]),
    Buffer.from('['.repeat(201) + ']'.repeat(201))]) {
    expect(() => parseJsonBody(body, 'body')).toThrow(StatusError)
  }
  expect(parse('['.repeat(200) + ']'.repeat(200)).duplicates).toEqual([])
})

test('a member called __proto__ is data', () => {
  const { document } = parse('{"__proto__":{"polluted":1}}')
  expect(Object.keys(document as object)).toEqual(['__proto__'])
  expect(({} as Record<string, unknown>)['polluted']).toBeUndefined()
})
