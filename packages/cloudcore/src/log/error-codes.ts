import type { ErrorTable } from '@holdfast/runtime'

/** Operating errors of the cloud log and its readers. */
export const cloudLogErrorCodes = {
  PARAMETER_INVALID: {
    cause: 'A parameter of a request for records is not known or has a value out of its bounds.',
    remedy: 'The answer names the parameter, its value and what is expected.',
    retryable: false
  },
  CURSOR_INVALID: {
    cause: 'The cursor is not one that this service gave out.',
    remedy: 'Pass a cursor on exactly as it was received, or read without one to begin at the oldest record.',
    retryable: false
  },
  CURSOR_EXPIRED: {
    cause: 'Retention has removed records behind the cursor before the reader asked for them.',
    remedy: 'Go on from `firstCursor`, knowing that records are missing; raise `retention` if readers must be allowed to '
      + 'lag further.',
    retryable: false
  },
  CURSOR_FOREIGN: {
    cause: 'The cursor belongs to another cloud log, or to records that this log has lost (it was wiped, restored from a '
      + 'backup, or made anew after damage).',
    remedy: 'Start again from `firstCursor`; nodes send again what they still hold.',
    retryable: false
  },
  LOG_UNAVAILABLE: {
    cause: 'The cloud log is being opened again after a failed write, or the service stops.',
    remedy: 'Try again; the log of the service names the failure.',
    retryable: true
  },
  LOG_NODES_FULL: {
    cause: 'The cloud log knows as many nodes as it may, and another one has connected.',
    remedy: 'Run another cloudcore for further nodes; docs/limits.md has the bound.',
    retryable: false
  },
  LOG_LANES_FULL: {
    cause: 'A node has sent more lanes than the cloud log keeps for one node.',
    remedy: 'Configure fewer lanes on the node; docs/limits.md has the bound.',
    retryable: false
  },
  LOG_EPOCHS_FULL: {
    cause: 'A lane has more epochs with records in the cloud log than it keeps: its daemon has been started very often.',
    remedy: 'Find out why edgecore restarts; shorten `retention`, which drops epochs without records.',
    retryable: true
  }
} as const satisfies ErrorTable

export type CloudLogErrorCode = keyof typeof cloudLogErrorCodes
