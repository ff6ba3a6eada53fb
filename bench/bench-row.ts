import { isFlawless, type Verdict } from '../test/harness/checker.ts'

/** A measured value: what it is called, and what would be good. */
export interface Column {
  readonly title: string
  readonly unit: string
  readonly atLeast?: number
  readonly atMost?: number
}

/** One round of a row; a value that could not be measured is left out. */
export interface Round<Key extends string = string> {
  readonly values: Readonly<Partial<Record<Key, number>>>
  /** What became of the records, where a reader accounted for them. */
  readonly verdict?: Verdict
}

export interface BenchContext {
  readonly rounds: number
  /** Line of progress for whoever waits. */
  say(text: string): void
}

/** One question, answered by rounds of measurement. */
export interface BenchRow<Key extends string = string> {
  readonly id: string
  readonly question: string
  /** How it is measured, and what is special about the configuration. */
  readonly how: string
  readonly columns: Readonly<Record<Key, Column>>
  /** Rejects with NotRun where this machine lacks something. */
  measure(context: BenchContext): Promise<Round<Key>[]>
}

/** Why a row was not run here. */
export class NotRun extends Error {}

/** Does a round as often as the context asks. */
export async function repeat<Key extends string>(
  context: BenchContext, round: () => Promise<Round<Key>>
): Promise<Round<Key>[]> {
  const rounds: Round<Key>[] = []
  while (rounds.length < context.rounds) {
    const done = await round()
    if (done.verdict !== undefined && !isFlawless(done.verdict)) {
      context.say(`NOT FLAWLESS: ${JSON.stringify(done.verdict)}`)
    }
    const values = Object.entries(done.values).map(([key, value]) => `${key} ${String(value)}`)
    context.say(`round ${rounds.length + 1}: ${values.join(', ')}`)
    rounds.push(done)
  }
  return rounds
}

export async function pause(ms: number): Promise<void> { await new Promise(resolve => setTimeout(resolve, ms)) }

/** Three significant digits are more than the machine gives. */
export function round3(value: number): number {
  if (Math.abs(value) >= 1000) return Math.round(value)
  return Number(value.toPrecision(3))
}
