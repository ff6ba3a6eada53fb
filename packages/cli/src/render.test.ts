import { describe, expect, it } from 'vitest'
import {
  formatAge, formatCount, formatSize, payloadText, RecordTable, renderNodes, renderTable, type NodeStatus, type RecordLine
} from './render.ts'

describe('a table for people', () => {
  it('puts numbers to the right, words to the left, and no spaces at the ends of lines', () => {
    expect(renderTable([{ title: 'NODE' }, { title: 'RECORDS', align: 'right' }, { title: 'NOTE' }], [
      ['edge-1', '7', ''], ['e', '1,234,567', 'full']
    ])).toBe('NODE      RECORDS  NOTE\nedge-1          7\ne       1,234,567  full\n')
  })

  it('is its heading where there are no rows', () => {
    expect(renderTable([{ title: 'A' }, { title: 'B' }], [])).toBe('A  B\n')
  })

  it.each([[0, '0'], [999, '999'], [1000, '1,000'], [1_234_567, '1,234,567'], [999.6, '1,000']])(
    'writes the count %d as %s', (count, text) => { expect(formatCount(count)).toBe(text) })

  it.each([
    [0, '0 B'], [1023, '1023 B'], [1024, '1.0 KiB'], [1536, '1.5 KiB'], [10 * 1024, '10 KiB'], [2 ** 20 - 1, '1.0 MiB'],
    [512 * 2 ** 20, '512 MiB'], [3 * 2 ** 40, '3.0 TiB'], [2 ** 63, '8192 PiB']
  ])('writes %d bytes as %s', (bytes, text) => { expect(formatSize(bytes)).toBe(text) })

  it.each([
    [-5, 'now'], [999, 'now'], [1000, '1 s'], [59_999, '59 s'], [60_000, '1 min'], [7_200_000, '2 h'], [172_800_000, '2 d']
  ])('writes the age %d ms as %s', (ms, text) => { expect(formatAge(ms)).toBe(text) })
})

describe('holdfast get nodes', () => {
  const lane = { lane: 'telemetry', epoch: 'a', nextOffset: 5, records: 1500, bytes: 2048, gaps: 1 }
  const nodes: NodeStatus[] = [
    {
      name: 'edge-1', connected: true, lastSeen: 'T0',
      lanes: [lane, { ...lane, lane: 'alarms', records: 7 }]
    },
    { name: 'edge-2', connected: false, lastSeen: 'T1', lanes: [] },
    { name: 'edge-3', connected: false, lastSeen: null, lanes: [lane] }
  ]

  it('has a line for each lane, with its totals over all epochs', () => {
    expect(renderNodes(nodes, timestamp => timestamp === 'T1' ? 90_000 : 0).split('\n')).toEqual([
      'NODE    LINK       LAST SEEN                 LANE       RECORDS     SIZE  GAPS',
      'edge-1  connected  now                       telemetry    1,500  2.0 KiB     1',
      'edge-1  connected  now                       alarms           7  2.0 KiB     1',
      'edge-2  offline    1 min ago                 -                -        -     -',
      'edge-3  offline    before the cloud\'s start  telemetry    1,500  2.0 KiB     1',
      ''
    ])
  })
})

describe('holdfast records', () => {
  const head = { node: 'edge-1', epoch: 'e', lane: 'telemetry', cursor: 'c' }
  const record = (offset: number, device: string, text: string): RecordLine => {
    const payload = Buffer.from(text).toString('base64')
    return { ...head, offset, timestamp: '2026-01-01T00:00:00.000Z', device, topic: 't', payload }
  }

  it('has a heading once, and columns that grow with what they hold', () => {
    const table = new RecordTable({ node: false, lane: false })
    expect(table.lines(record(9, 'home/kettle', '{"c":1}'))).toBe(
      'TIME                      OFFSET  DEVICE       PAYLOAD\n2026-01-01T00:00:00.000Z       9  home/kettle  {"c":1}\n')
    expect(table.lines(record(10, 'a/b', 'x'))).toBe('2026-01-01T00:00:00.000Z      10  a/b          x\n')
  })

  it('shows node and lane where the reader did not choose them, and what a gap stands for', () => {
    const table = new RecordTable({ node: true, lane: true })
    expect(table.lines({ ...head, gap: { first: 3, last: 6, records: 4, reason: 'corrupt' } }))
      .toMatch(/^TIME +NODE +LANE +OFFSET +DEVICE +PAYLOAD\n-- gap in edge-1 telemetry: offsets 3 to 6, 4 records: corrupt\n$/)
    expect(table.lines(record(7, 'a/b', 'x'))).toMatch(/ edge-1 +telemetry +7 /)
  })

  it.each<[string, Uint8Array, string]>([
    ['text', Buffer.from('{"grüße":"👩‍🚀"}'), '{"grüße":"👩‍🚀"}'],
    ['lines', Buffer.from('a\r\n\tb'), 'a\\r\\n\\tb'],
    ['nothing', Buffer.alloc(0), ''],
    ['a terminal\'s commands', Buffer.from('\u001b[2J'), '<4 B: 1b5b324a>'],
    ['C1 controls', Buffer.from('\u009b'), '<2 B: c29b>'],
    ['text turned round', Buffer.from('\u202eabc'), '<6 B: e280ae616263>'],
    ['what is not UTF-8', Uint8Array.of(0xff, 0xfe), '<2 B: fffe>'],
    ['long binary', new Uint8Array(2048), `<2.0 KiB: ${'00'.repeat(24)}…>`]
  ])('shows %s so that it does a terminal no harm', (_what, payload, shown) => { expect(payloadText(payload)).toBe(shown) })
})
