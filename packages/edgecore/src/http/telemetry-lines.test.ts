import { HttpProblem } from '@holdfast/runtime'
import { expect, test } from 'vitest'
import { httpLimits } from './limits.ts'
import { telemetryLines } from './telemetry-lines.ts'

const read = (text: string | Buffer) => [...telemetryLines(Buffer.from(text))]
  .map(({ line, topic, payload }) => [line, topic, payload.toString()])

function problem(text: string | Buffer): { status: number, extensions: Record<string, unknown>, detail: string } {
  try {
    read(text)
  } catch (error) {
    if (!(error instanceof HttpProblem)) throw error
    return { status: error.status, extensions: { ...error.fields.extensions }, detail: error.message }
  }
  throw new Error('expected a problem')
}

test('a payload keeps its digits, escapes and order, and loses the white space between its parts', () => {
  const payload = '{ "b" : 1.0, "a":[12345678901234567890 ,\t"x \\" } ]", true,{}],"e" : "\\u00e9é", "n":-1e-7 }'
  expect(read(`  {"payload" : ${payload} , "device":"ns/n"}\r\n`)).toEqual([
    [1, 'devices/ns/n/telemetry', '{"b":1.0,"a":[12345678901234567890,"x \\" } ]",true,{}],"e":"\\u00e9é","n":-1e-7}']
  ])
})

test('any JSON value is a payload', () => {
  for (const value of ['null', '0', 'true', '"text"', '""', '[]', '{"a":{"b":[[]]}}', '-12.5e3']) {
    expect(read(`{"device":"ns/n","payload":${value}}`), value).toEqual([[1, 'devices/ns/n/telemetry', value]])
  }
})

test('white space inside and around does not change which value is read', () => {
  const tokens = ['{', '"device"', ':', '"a/b"', ',', '"payload"', ':', '[', '1', ',', '{', '"x"', ':', '" y "', '}', ']', '}']
  for (const space of ['', ' ', '\t', ' \t ']) {
    expect(read(tokens.join(space))).toEqual([[1, 'devices/a/b/telemetry', '[1,{"x":" y "}]']])
  }
})

test('base64 gives bytes, and has to be exact', () => {
  expect([...telemetryLines(Buffer.from('{"device":"ns/n","payloadBase64":"AP8="}'))][0]!.payload).toEqual(Buffer.from([0, 255]))
  for (const bad of ['"AP8"', '"AP9="', '"A*8="', '"AP8=\\n"', '5', 'null']) {
    expect(problem(`{"device":"ns/n","payloadBase64":${bad}}`).extensions, bad)
      .toMatchObject({ code: 'RECORD_INVALID', line: 1, field: 'payloadBase64', value: bad })
  }
})

test('lines are counted with blank ones, which are passed over', () => {
  expect(read('\n{"device":"a/b","payload":1}\n\n \r\n{"device":"a/c","payload":2}')).toEqual([
    [2, 'devices/a/b/telemetry', '1'], [5, 'devices/a/c/telemetry', '2']
  ])
})

test.each([
  ['not JSON', '{"device":"a/b",}', { value: '{"device":"a/b",}' }],
  ['not an object', '[1]', { value: '[1]' }],
  ['no device', '{"payload":1}', { field: 'device', value: '' }],
  ['a device that is no text', '{"device":5,"payload":1}', { field: 'device', value: '5' }],
  ['a device of one part', '{"device":"a","payload":1}', { field: 'device', value: '"a"' }],
  ['a device of three parts', '{"device":"a/b/c","payload":1}', { field: 'device' }],
  ['a device with a wildcard', '{"device":"a/+","payload":1}', { field: 'device' }],
  ['no payload', '{"device":"a/b"}', { field: 'payload', value: '' }],
  ['both payloads', '{"device":"a/b","payload":1,"payloadBase64":""}', { field: 'payloadBase64' }],
  ['an unknown field', '{"device":"a/b","payload":1,"topic":"x"}', { field: 'topic', value: '"x"' }],
  ['a field named __proto__', '{"device":"a/b","payload":1,"__proto__":{}}', { field: '__proto__' }],
  ['a field given twice', '{"device":"a/b","payload":1,"payload":2}', { field: 'payload', value: '2' }]
])('%s is refused with line, field and value', (_what, line, expected) => {
  const { status, extensions, detail } = problem(`{"device":"a/b","payload":0}\n${line}\n`)
  expect(status).toBe(400)
  expect(extensions).toMatchObject({ code: 'RECORD_INVALID', line: 2, ...expected })
  expect(extensions['bound']).toBeTypeOf('string')
  expect(detail).toContain('line 2')
})

test('what is not UTF-8 is refused', () => {
  const { extensions, detail } = problem(Buffer.concat([
    Buffer.from('{"device":"a/b","payload":"'), Buffer.from([0xff]), Buffer.from('"}')
  ]))
  expect(extensions).toMatchObject({ code: 'RECORD_INVALID', line: 1, bound: 'UTF-8' })
  expect(detail).toBe('line 1: expected text in UTF-8, got bytes that are not; payloadBase64 takes any bytes')
})

test('a field that there is not is called so', () => {
  expect(problem('{"device":"a/b","payload":1,"topic":"x"}').detail)
    .toBe('line 1: unknown field "topic"; there are device, payload and payloadBase64')
})

test('a line and a payload have bounds', () => {
  const bytesMax = httpLimits.recordBytes.value
  const line = (length: number) => `{"device":"a/b","payload":"${'x'.repeat(length - 2)}"}`
  expect(read(line(bytesMax))[0]![2]).toHaveLength(bytesMax)
  expect(problem(line(bytesMax + 1))).toMatchObject({ status: 413, extensions: { code: 'RECORD_TOO_LARGE', line: 1, bound: bytesMax } })
  expect(problem(`\n${' '.repeat(httpLimits.lineBytes.value + 1)}`))
    .toMatchObject({ status: 413, extensions: { line: 2, bound: httpLimits.lineBytes.value } })
})

test('a deeply nested payload is kept, not recursed into', () => {
  const depth = 100_000
  expect(read(`{"device":"a/b","payload":${'['.repeat(depth)}${']'.repeat(depth)}}`)[0]![2]).toHaveLength(2 * depth)
})
