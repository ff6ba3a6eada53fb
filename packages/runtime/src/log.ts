/** Fields of a log line. Values are JSON; never a payload, never a secret. */
export type LogFields = Readonly<Record<string, unknown>>

export const logLevels = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof logLevels)[number]

/** Structured log. One line a notable event, none per message. */
export interface Log {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
  /** The same log with fields added to every line. */
  with(fields: LogFields): Log
}

/**
 * JSON lines: `{"time":RFC 3339,"level","message",…fields}`, written by `write` (a whole line with its newline).
 * Lines below `level` cost one comparison.
 */
export function jsonLog(level: LogLevel, write: (line: string) => void, wallMs: () => number, fixed: LogFields = {}): Log {
  const least = logLevels.indexOf(level)
  const at = (name: LogLevel) => (message: string, fields?: LogFields): void => {
    if (logLevels.indexOf(name) < least) return
    write(JSON.stringify({ time: new Date(wallMs()).toISOString(), level: name, message, ...fixed, ...fields }) + '\n')
  }
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    with: fields => jsonLog(level, write, wallMs, { ...fixed, ...fields })
  }
}

/** Says nothing. */
export const silentLog: Log = {
  debug() {}, info() {}, warn() {}, error() {},
  with: () => silentLog
}
