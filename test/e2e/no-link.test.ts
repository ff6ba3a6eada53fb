import { expect, it } from 'vitest'
import { Fleet, until, type Daemon } from '../harness/daemons.ts'
import { lastingPort } from '../harness/ports.ts'

interface LogLine { readonly level: string, readonly message: string, readonly detail?: string }

const linkLines = (edge: Daemon): LogLine[] => edge.log.split('\n').filter(line => line.includes('"link '))
  .map(line => JSON.parse(line) as LogLine)

const attempts = async (edge: Daemon): Promise<number> => {
  const text = await (await fetch(`${edge.endpoints.ops}/metrics`)).text()
  return [...text.matchAll(/^holdfast_edge_link_ends_total\S* (\d+)$/gm)].reduce((sum, match) => sum + Number(match[1]), 0)
}

const linkState = async (edge: Daemon): Promise<string> =>
  (await (await fetch(`${edge.endpoints.ops}/readyz?verbose`)).text()).split('\n')[0]!

it('a node that meets another cluster\'s cloudcore says so once, in words, with the way out', async () => {
  await using fleet = await Fleet.start()
  await using other = await Fleet.start()
  const edge = await fleet.join('edge-1', { set: [`server=${other.cloud.endpoints.tunnel}`, 'link.retryMax=100ms'] })
  await edge.start()
  await until('several attempts', async () => await attempts(edge) >= 4)
  expect(linkLines(edge)).toEqual([expect.objectContaining({
    level: 'error', message: 'link not up', detail: expect.stringMatching(/^LINK_SERVER_UNTRUSTED: .*another CA.*join again/) as string
  })])
  expect(await linkState(edge)).toMatch(/LINK_SERVER_UNTRUSTED.*, this does not pass by itself$/)
})

it('a node whose cloud is not there says so once, and that it goes on trying', async () => {
  const port = await lastingPort()
  await using fleet = await Fleet.start()
  const edge = await fleet.join('edge-1', { set: [`server=wss://127.0.0.1:${port}`, 'link.retryMax=100ms'] })
  await edge.start()
  await until('several attempts', async () => await attempts(edge) >= 4)
  expect(linkLines(edge)).toEqual([expect.objectContaining({ level: 'warn', detail: `connect ECONNREFUSED 127.0.0.1:${port}` })])
  expect(await linkState(edge)).toMatch(/ECONNREFUSED.*, offline is normal$/)
})
