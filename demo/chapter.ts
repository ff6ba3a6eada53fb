import type { Stage } from './stage.ts'

/** A part of the demo: what happens, and what it proves. */
export interface Chapter {
  /** A short sentence that says what happens. */
  readonly title: string
  /** One line for a newcomer: what this shows. */
  readonly proves: string
  /** Rejects with what went wrong; `stage.step` says where. */
  run(stage: Stage): Promise<void>
}
