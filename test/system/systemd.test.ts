import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, beforeEach, expect, it } from 'vitest'
import { Fleet, drained, until } from '../harness/daemons.ts'
import type { Daemon } from '../harness/daemons.ts'
import { check, missing } from './programs.ts'

const root = join(import.meta.dirname, '../..')
const units = ['edgecore', 'cloudcore'] as const
const absent = missing('systemd-analyze')
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-system-'))
  for (const unit of units) {
    // Where a unit says /opt/holdfast, this checkout is: the programs that it starts have to be there.
    const text = await readFile(join(root, `deploy/systemd/${unit}.service`), 'utf8')
    await writeFile(join(folder, `${unit}.service`), text.replaceAll('/opt/holdfast', root))
  }
  return () => rm(folder, { recursive: true, force: true })
})
beforeEach(({ skip }) => { skip(absent !== undefined, absent) })

it.each(units)('%s.service is what systemd understands, and starts a program that is there', async unit => {
  await check('systemd-analyze', ['verify', join(folder, `${unit}.service`)])
})

it.each(units)('%s.service leaves little to whoever takes the daemon over', async unit => {
  await check('systemd-analyze', ['security', '--offline=true', '--no-pager', '--threshold=20', join(folder, `${unit}.service`)])
})

it('the daemons make no system call that the units forbid', async ({ skip }) => {
  const reason = missing('strace')
  skip(reason !== undefined, reason)
  const traces = units.map(unit => join(folder, `${unit}.trace`))
  const under = (unit: number): string[] => ['strace', '-D', '-f', '-o', traces[unit]!]
  await using fleet = await Fleet.start({ cloud: { under: under(1) } })
  const edge = await fleet.join('edge-1', { under: under(0) })
  await edge.start()
  for (let i = 0; i < 20; i++) {
    await fetch(`${edge.endpoints.http}/v1/devices/shop/m1/telemetry`, { method: 'POST', body: 'x'.repeat(100_000) })
  }
  await drained(edge)
  await fetch(`${edge.endpoints.ops}/metrics`)
  await (await fetch(`${fleet.cloud.endpoints.ops}/v1/records`)).text()
  const daemons: Daemon[] = [edge, fleet.cloud]
  for (const [i, daemon] of daemons.entries()) {
    expect(await daemon.stop()).toBe(0)
    const read = (): Promise<string> => readFile(traces[i]!, 'utf8')
    await until('the trace is whole', async () => new RegExp(`^${daemon.pid} .*exited with 0`, 'm').test(await read()))
    const used = new Set([...(await read()).matchAll(/^\d+ +(\w+)\(/gm)].map(match => match[1]!))
    expect(used.size).toBeGreaterThan(40)
    const allowed = await allowedCalls(join(folder, `${units[i]!}.service`))
    expect([...used].filter(call => !allowed.has(call)), units[i]).toEqual([])
  }
})

it('the user of the units is made by the file beside them', async () => {
  const declared = await readFile(join(root, 'deploy/systemd/holdfast.sysusers.conf'), 'utf8')
  for (const unit of units) {
    const user = /^User=(.*)$/m.exec(await readFile(join(folder, `${unit}.service`), 'utf8'))?.[1]
    expect(declared).toMatch(new RegExp(`^u ${user} `, 'm'))
  }
})

/** What the `SystemCallFilter=` lines of a unit leave, sets resolved by systemd. */
async function allowedCalls(unit: string): Promise<Set<string>> {
  const calls = new Set<string>()
  for (const [, filter = ''] of (await readFile(unit, 'utf8')).matchAll(/^SystemCallFilter=(.*)$/gm)) {
    for (const set of filter.replace('~', '').split(' ')) {
      for (const call of await callsOf(set)) {
        if (filter.startsWith('~')) calls.delete(call)
        else calls.add(call)
      }
    }
  }
  return calls
}

async function callsOf(set: string): Promise<string[]> {
  const listed = (await check('systemd-analyze', ['syscall-filter', '--no-pager', set])).split('\n').slice(1)
    .map(line => line.trim()).filter(line => line !== '' && !line.startsWith('#'))
  const calls: string[] = []
  for (const line of listed) calls.push(...line.startsWith('@') ? await callsOf(line) : [line])
  return calls
}
