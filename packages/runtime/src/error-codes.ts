import type { ErrorTable } from './errors.ts'

export const runtimeErrorCodes = {
  CONFIG_INVALID: {
    cause: 'The configuration has problems; each is listed with its place, its value and what is expected there.',
    remedy: 'Correct the listed settings; `--help` shows them all, `--print-config` what is in effect.',
    retryable: false
  },
  CONFIG_UNREADABLE: {
    cause: 'The file given with --config cannot be read.',
    remedy: 'Check the path and its permissions.',
    retryable: false
  },
  USAGE: {
    cause: 'The command line has an option that is not known, or lacks a value.',
    remedy: 'See `--help`.',
    retryable: false
  },
  DATA_FOLDER_UNUSABLE: {
    cause: 'The folder set as `dataDir` (`--data-dir`) cannot be made, read or written.',
    remedy: 'The message says why: give it to the user that the program runs as, mount it writable, or set another one.',
    retryable: false
  },
  LISTEN_FAILED: {
    cause: 'A port cannot be listened on: it is taken, not permitted, or the address is not this machine\'s.',
    remedy: 'Set another host or port (0 takes any free port), or stop what holds it.',
    retryable: false
  }
} as const satisfies ErrorTable
