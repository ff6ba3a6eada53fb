import { constants } from 'node:os'
import { describeError, exitCodes, hasCode, HoldfastError, SystemClock } from '@holdfast/runtime'
import packageJson from '../package.json' with { type: 'json' }
import { helpCommand, helpOverview, parseCommandLine, type Command, type CommandHost } from './command.ts'
import { getDevices } from './commands/get-devices.ts'
import { getNodes } from './commands/get-nodes.ts'
import { joinCommand } from './commands/join.ts'
import { records } from './commands/records.ts'
import { tokenCreate } from './commands/token-create.ts'
import { twinGet } from './commands/twin-get.ts'
import { twinSet } from './commands/twin-set.ts'
import { twinWatch } from './commands/twin-watch.ts'
import { up } from './commands/up.ts'

const commands: readonly Command[] = [
  up, tokenCreate, joinCommand, getNodes, getDevices, twinGet, twinSet, twinWatch, records
]

/** One Ctrl-C may come twice: from the terminal, and from npm, which hands on what it gets. */
const sameSignalMs = 1000

const clock = new SystemClock()
const shutdown = new AbortController()
let stoppedAtMs = 0

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    if (!shutdown.signal.aborted) {
      stoppedAtMs = clock.monotonicMs()
      shutdown.abort(new Error(`stopped by ${signal}`))
    } else if (clock.monotonicMs() - stoppedAtMs > sameSignalMs) process.exit(128 + constants.signals[signal])
  })
}

/** A reader that went away, as in `holdfast records | head`, is not a fault: what nobody reads need not be written. */
process.stdout.on('error', (error: NodeJS.ErrnoException) =>
  process.exit(error.code === 'EPIPE' ? exitCodes.ok.code : exitCodes.fault.code))

const host: CommandHost = {
  environment: process.env,
  folder: process.cwd(),
  nodePath: process.execPath,
  shutdown: shutdown.signal,
  clock,
  ageMs: timestamp => Date.now() - Date.parse(timestamp),
  onExit: task => void process.on('exit', task),
  write: text => new Promise((resolve, reject) => {
    process.stdout.write(text, error => { if (error) reject(error); else resolve() })
  }),
  say: text => void process.stderr.write(`${text}\n`)
}

process.exit(await run(process.argv.slice(2)))

async function run(args: readonly string[]): Promise<number> {
  try {
    const invocation = parseCommandLine(args, commands)
    switch (invocation.kind) {
      case 'help':
        await host.write(invocation.command === undefined ? helpOverview(commands) : helpCommand(invocation.command))
        return exitCodes.ok.code
      case 'version':
        await host.write(`holdfast ${packageJson.version}\n`)
        return exitCodes.ok.code
      case 'run':
        return await invocation.command.run(invocation.values, host, invocation.operands)
    }
  } catch (error) {
    // What was asked to stop has stopped, also where it shows as a connection that broke off.
    const stopped = error === shutdown.signal.reason
      || ['CLOUD_CONNECTION_LOST', 'EDGE_CONNECTION_LOST', 'CLUSTER_CONNECTION_LOST'].some(code => hasCode(error, code))
    if (shutdown.signal.aborted && stopped) return exitCodes.ok.code
    if (hasCode(error, 'USAGE')) {
      host.say((error as Error).message)
      return exitCodes.usage.code
    }
    host.say(`holdfast: ${error instanceof HoldfastError ? `${error.message} [${error.code}]` : describeError(error)}`)
    return exitCodes.fault.code
  }
}
