import { hasCode, describeError, HoldfastError } from './errors.ts'
import { jsonLog, type Log, type LogLevel } from './log.ts'

/** What a program's end says; `docs/errors.md` lists them. */
export const exitCodes = {
  ok: { code: 0, meaning: 'Did what was asked, or was told to stop and had stopped in time.' },
  fault: { code: 1, meaning: 'A fault that the program cannot go on from; the last log line says which.' },
  usage: { code: 2, meaning: 'The command line or the configuration has problems; starting again does not help.' },
  stopLate: { code: 3, meaning: 'Was told to stop and had not within the deadline; nothing acknowledged is lost.' },
  aborted: { code: 4, meaning: 'Was told to stop a second time, and ended at once; nothing acknowledged is lost.' }
} as const

export type ExitName = keyof typeof exitCodes

/** Codes of errors that are the caller's to correct. They are printed as they are, without a log line. */
const usageCodes = ['USAGE', 'CONFIG_INVALID', 'CONFIG_UNREADABLE']

export interface ProgramOptions {
  readonly name: string
  /** From the first signal to a forced end. Default 5000. */
  readonly stopWithinMs?: number
}

/** What `main` may use of the process. */
export interface Program {
  /** The command line after the program's name. */
  readonly args: readonly string[]
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Aborts at the first SIGTERM or SIGINT: finish, close, return. */
  readonly shutdown: AbortSignal
  /** Standard output. */
  print(text: string): void
  /** The program's log on standard error from here on, also for what nobody catches. */
  openLog(level: LogLevel): Log
}

/**
 * Runs a program to its end and exits with one of `exitCodes`; never returns.
 *
 * The first SIGTERM or SIGINT aborts `shutdown`, the second ends the process at once, and so does `stopWithinMs`. A
 * rejection of `main` and an error that nobody caught are logged once and end the process with `fault`.
 */
export async function runProgram(options: ProgramOptions, main: (program: Program) => Promise<void>): Promise<never> {
  const shutdown = new AbortController()
  const stopWithinMs = options.stopWithinMs ?? 5000
  const logAt = (level: LogLevel): Log =>
    jsonLog(level, line => void process.stderr.write(line), () => Date.now(), { program: options.name })
  let log = logAt('info')

  const stop = (signal: NodeJS.Signals): void => {
    if (shutdown.signal.aborted) {
      log.warn('stopped at once by a second signal', { signal })
      exit('aborted')
    }
    log.info('stopping', { signal })
    setTimeout(() => {
      log.error('not stopped in time', { stopWithinMs })
      exit('stopLate')
    }, stopWithinMs).unref()
    shutdown.abort(new Error(`${options.name} was told to stop by ${signal}`))
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
  process.on('uncaughtException', (error: unknown) => {
    log.error('an error that nobody caught', { error: describeError(error), stack: stackOf(error) })
    exit('fault')
  })
  // A reader that went away, as in `holdfast records | head`, is not a fault.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') exit('ok')
    throw error
  })

  try {
    await main({
      args: process.argv.slice(2),
      environment: process.env,
      shutdown: shutdown.signal,
      print: text => void process.stdout.write(text),
      openLog: level => log = logAt(level)
    })
    return exit('ok')
  } catch (error) {
    if (shutdown.signal.aborted && error === shutdown.signal.reason) return exit('ok')
    if (usageCodes.some(code => hasCode(error, code))) {
      process.stderr.write(`${(error as Error).message}\n`)
      return exit('usage')
    }
    log.error('stopped by a fault', { error: describeError(error), stack: stackOf(error) })
    return exit('fault')
  }
}

/** True while there is a process with this id on the machine, be it ours or not. */
export function processExists(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

function exit(name: ExitName): never { process.exit(exitCodes[name].code) }

/** An operating error says all in its message. */
const stackOf = (error: unknown): string | undefined =>
  error instanceof Error && !(error instanceof HoldfastError) ? error.stack : undefined
