/**
 * Places where a test can have the process killed, in the order in which a record passes them. Inert unless
 * `HOLDFAST_FAILPOINT=<name>` or `<name>:<n>` (the n-th time) is in the environment.
 */
export const failpoints = {
  'commit:before-write': 'a commit is encoded; nothing of it was handed to the store',
  'commit:after-write': 'a commit is durable; nobody was told',
  'puback:before': 'a publish is durable; its PUBACK or PUBREC was not written',
  'puback:after': 'its PUBACK or PUBREC was written to the socket',
  'send:before': 'a Log frame is made; nothing was handed to the socket',
  'send:after': 'a Log frame was handed to the socket',
  'trim:before': 'acknowledged batches are about to be deleted',
  'trim:after': 'their deletion is durable',
  'epoch:before': 'a start is about to begin its epochs',
  'epoch:after': 'the epochs of this start are durable; nothing was appended',
  'reidentify:before': 'a diverged lane is about to get a new epoch',
  'reidentify:after': 'that epoch is durable; the link has not been restarted',
  'state-apply:before': 'a batch of State has arrived on the node; nothing was handed to the store',
  'state-apply:after': 'a batch of State is durable on the node; it was not acknowledged',
  'append:before': 'a batch has arrived in the cloud; the log was not told',
  'ack:before': 'a batch is durable in the cloud; the edge was not told',
  'ack:after': 'the acknowledgement was handed to the socket'
} as const

export type FailpointName = keyof typeof failpoints

/** Called where the process passes a failpoint. */
export type Failpoint = (name: FailpointName) => void

export const inertFailpoint: Failpoint = () => {}

/**
 * The failpoint that the environment asks for: kills this process with SIGKILL at the n-th passing of that place.
 * Throws for a name that is not in the table.
 */
export function failpointOf(environment: Readonly<Record<string, string | undefined>>): Failpoint {
  const text = environment.HOLDFAST_FAILPOINT
  if (text === undefined || text === '') return inertFailpoint
  const [, name, count] = /^([a-z-]+:[a-z-]+)(?::(\d+))?$/.exec(text) ?? []
  if (name === undefined || !(name in failpoints)) {
    throw new Error(`HOLDFAST_FAILPOINT=${text}: expected one of ${Object.keys(failpoints).join(', ')}, with :n for the n-th time`)
  }
  let left = Number(count ?? 1)
  return passed => {
    if (passed === name && --left === 0) process.kill(process.pid, 'SIGKILL')
  }
}
