import type { TestContext } from 'vitest'

/** One line of docs/reliability.md. */
export interface FaultResult {
  /** Rows of the fault matrix that it is about. */
  readonly rows: readonly number[]
  readonly fault: string
  readonly injection: string
  readonly rounds: number
  /** What was seen, with numbers; nothing that differs without reason from run to run is asked of it. */
  readonly outcome: string
}

declare module 'vitest' {
  interface TaskMeta { fault?: FaultResult }
}

/** Says what a passed test has shown; results-reporter.ts gathers it. */
export function report(context: Pick<TestContext, 'task'>, result: FaultResult): void { context.task.meta.fault = result }
