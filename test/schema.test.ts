import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { protocolHistory, protocolMax, protocolMin } from '@holdfast/protos'

/**
 * Hash of what is on the wire, without comments and white space, by protocol version. A change that a peer can notice
 * is a
 * new version in `protocolHistory`, with a line of its own here; the lines of released versions stay.
 */
const schemaHashes: Readonly<Record<number, string>> = {
  1: 'cf0248971a8a21a7fb2ba989303640ce',
  2: '1e51d913bb2d2ce755d9500a3aea1f54'
}

test('a changed schema has a version of its own', () => {
  const hash = createHash('sha256')
  for (const file of ['tunnel.proto', 'log.proto', 'state.proto']) {
    const text = readFileSync(join(dirname(import.meta.dirname), 'protos/holdfast/v1', file), 'utf8')
    hash.update(text.replaceAll(/\/\/.*$/gm, '').replaceAll(/\s+/g, ' '))
  }
  expect(hash.digest('hex').slice(0, 32),
    `the .proto files differ from version ${protocolMax}: add a version to protocolHistory ` +
    'and its hash here').toBe(schemaHashes[protocolMax])
  expect(protocolHistory.at(-1)!.version).toBe(protocolMax)
  expect(protocolHistory.map(({ version }) => version)).toEqual(Array.from({ length: protocolMax }, (_, i) => i + 1))
  expect(protocolMin).toBeGreaterThanOrEqual(1)
  expect(protocolMin).toBeLessThanOrEqual(protocolMax)
})
