import { epochFromBytes, writeUint64 } from '@holdfast/protos'
import { parseNodeName } from '@holdfast/runtime'
import { expect, it } from 'vitest'
import { cloudLogLimits } from './limits.ts'
import { Registry } from './registry.ts'

const node = parseNodeName('edge-1')!
const lane = { id: 1, name: 'alarms' }

function epoch(n: number): { epoch: ReturnType<typeof epochFromBytes>, predecessor: undefined, start: number, reason: 'started' } {
  const bytes = Buffer.alloc(8)
  writeUint64(bytes, 0, n)
  return { epoch: epochFromBytes(bytes), predecessor: undefined, start: 0, reason: 'started' }
}

it('a node that starts again and again without a record is never refused, and does not fill the memory', { timeout: 60_000 }, () => {
  const registry = new Registry()
  const starts = 2 * cloudLogLimits.unusedEpochs.value + 10
  const kept = registry.stream(node, lane, epoch(0))
  kept.stored = true
  for (let n = 1; n <= starts; n++) registry.stream(node, lane, epoch(n))
  expect(registry.streamsById.size).toBeLessThanOrEqual(cloudLogLimits.unusedEpochs.value + 1)
  expect(registry.stream(node, lane, epoch(0))).toBe(kept)
  expect(registry.stream(node, lane, epoch(starts)).stale).toBe(false)
})
