import { once } from 'node:events'
import { createServer } from 'node:http'
import { describe, expect, it } from 'vitest'
import { Ledger, flawless } from '../harness/ledger.ts'
import type { Sender, Verdict } from '../harness/ledger.ts'
import { payloadOf } from '../harness/publisher.ts'

const sent: Sender = {
  options: { name: 'meter', qos: 1, window: 1, payloadBytesMax: 50 }, topic: 'devices/shop/meter/telemetry',
  attempts: [1, 1, 2, 1, 1, 1], acknowledged: [true, true, true, true, true, false], acknowledgedCount: 5, sequences: 6
}

type Line = number | { readonly first: number, readonly last: number } | { readonly text: string }

/** The verdict over a log that holds these: a sequence, a gap, or other text, at offsets from 0 on. */
async function verdictOf(lines: readonly Line[]): Promise<Verdict> {
  let offset = 0
  const body = lines.map((line, i) => {
    const at = { node: 'n', epoch: 'e', lane: 'telemetry', cursor: String(i) }
    if (typeof line === 'object' && 'first' in line) {
      offset = line.last + 1
      return JSON.stringify({ ...at, gap: { ...line, records: 1, reason: 'corrupt' } })
    }
    const payload = typeof line === 'number' ? payloadOf('meter', line, 50) : line.text
    return JSON.stringify({ ...at, offset: offset++, device: 'shop/meter', topic: sent.topic, payload })
  }).map(line => `${line}\n`).join('')
  const server = createServer((_request, response) => response.end(body)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    const ledger = new Ledger('n', [sent])
    await ledger.read(`http://127.0.0.1:${(server.address() as { port: number }).port}`)
    return ledger.verdict()
  } finally {
    server.close()
  }
}

describe('the ledger', () => {
  it('finds nothing wrong where nothing is, and tells repeats by the sender apart', async () => {
    expect(await verdictOf([0, 1, 2, 3, 4])).toMatchObject({ ...flawless, repeated: 0 })
    expect(await verdictOf([0, 1, 2, 2, 3, 4, 5])).toMatchObject({ ...flawless, repeated: 1 })
  })

  it.each([
    ['lost before all others', [1, 2, 3, 4], { lostPrefix: 1 }],
    ['lost in the middle', [0, 1, 3, 4], { lostMiddle: 1 }],
    ['lost at the end', [0, 1, 2], { lostTail: 2 }],
    ['twice', [0, 1, 1, 2, 3, 4], { twice: 1 }],
    ['three times where it was sent twice', [0, 1, 2, 2, 2, 3, 4], { twice: 1, repeated: 1 }],
    ['out of order', [0, 2, 1, 3, 4], { inversions: 1 }],
    ['other bytes', [0, 1, 2, { text: 'meter-3-x' }, 4], { wrong: 1, lostMiddle: 1 }],
    ['a sequence that was never sent', [0, 1, 2, 3, 4, 9], { wrong: 1 }],
    ['covered by a gap', [0, 1, { first: 2, last: 2 }, 3, 4], { lostMiddle: 0, covered: 1 }],
    ['beside a gap that is elsewhere', [0, { first: 1, last: 1 }, 1, 2, 4], { lostMiddle: 1, covered: 0 }]
  ] as const)('sees what is %s', async (_what, lines, expected) => {
    expect(await verdictOf(lines)).toMatchObject(expected)
  })
})
