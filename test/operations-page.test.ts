import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { exitCodes } from '@holdfast/runtime'
import { cloudcoreMetrics } from '../packages/cloudcore/src/metrics.ts'
import { edgecoreMetrics } from '../packages/edgecore/src/metrics.ts'

const root = join(import.meta.dirname, '..')
const read = (path: string): Promise<string> => readFile(join(root, path), 'utf8')
const page = await read('docs/operations.md')

it('docs/operations.md names metrics that exist', () => {
  const known = new Set([...Object.values(edgecoreMetrics), ...Object.values(cloudcoreMetrics)].map(({ name }) => name as string))
  const named = new Set(page.match(/\b(?:holdfast|process)_[a-z_]+/g))
  expect(named.size).toBeGreaterThan(10)
  expect([...named].filter(name => !known.has(name))).toEqual([])
})

it('docs/operations.md names settings that exist', async () => {
  const reference = (await read('docs/configuration.md')).replaceAll('&lt;', '<')
  const named = [...page.matchAll(/`((?:mqtt|http|tunnel|lanes|disk|link|retention|log|kube)\.[A-Za-z.<>]+)`/g)].map(match => match[1]!)
  expect(named.length).toBeGreaterThan(10)
  expect(named.filter(name => !reference.includes(`\`${name.replace('lanes.telemetry.', 'lanes.<name>.')}\``))).toEqual([])
})

it('docs/operations.md lists the exit codes', () => {
  const listed = [...page.matchAll(/^\| (\d) \|/gm)].map(match => Number(match[1]))
  expect(listed).toEqual(Object.values(exitCodes).map(({ code }) => code))
})

it('docs/spec/broker.md names tests that exist', async () => {
  const spec = await read('docs/spec/broker.md')
  const sources = (await Promise.all(['packages/edgecore/src/broker/broker.test.ts', 'packages/edgecore/src/broker/packet-stream.test.ts',
    'packages/edgecore/src/broker/persistence.test.ts', 'test/system/mosquitto.test.ts', 'test/system/durability.test.ts'].map(read))).join('\n')
  const rows = spec.slice(spec.indexOf('| aedes | rule | tests |')).split('\n').filter(line => /MQTT-\d/.test(line))
  expect(rows.length).toBeGreaterThan(10)
  for (const row of rows) {
    for (const [, name = ''] of row.split('|')[3]!.matchAll(/`([^`]+)`/g)) {
      expect(sources.includes(`'${name}`), name).toBe(true)
    }
  }
})
