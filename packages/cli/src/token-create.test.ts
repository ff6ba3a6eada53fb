import { expect, it } from 'vitest'
import { SystemClock } from '@holdfast/runtime'
import { helpCommand, type CommandHost } from './command.ts'
import { tokenCreate } from './commands/token-create.ts'

const host: CommandHost = {
  environment: {}, folder: '/', nodePath: '', shutdown: new AbortController().signal, clock: new SystemClock(),
  ageMs: () => 0, onExit: () => {}, write: async () => {}, say: () => {}
}

it.each([
  [{ ttl: '367d' }, '--ttl "367d": expected a duration such as 30m, 12h or 7d, from 1s to 366d'],
  [{ ttl: '1ms' }, '--ttl "1ms": expected a duration'],
  [{ ttl: 'long' }, '--ttl "long": expected a duration'],
  [{ uses: '10001' }, '--uses "10001": expected a whole number from 1 to 10000'],
  [{ uses: '0' }, '--uses "0": expected a whole number']
])('a token is not asked for with %j', async (values, message) => {
  await expect((async () => await tokenCreate.run(values, host, []))())
    .rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining(message) as string })
})

it('the help says what holds without options', () => {
  expect(helpCommand(tokenCreate)).toMatch(/--ttl .*Default: 24h\.\n.*--uses .*Default: 1\./)
})
