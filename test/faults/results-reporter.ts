import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Reporter, TestModule } from 'vitest/node'
import type { FaultResult } from './fault-report.ts'

/** One test of the fault matrix, as it went the last time it was recorded. */
export type FaultRecord =
  | { readonly test: string, readonly state: 'passed' } & FaultResult
  | { readonly test: string, readonly state: 'failed' }
  | { readonly test: string, readonly state: 'not-run', readonly reason: string }

export const resultsPath = join(import.meta.dirname, 'results.json')

/**
 * Where RECORD_FAULTS is set, keeps what the tests of the fault matrix reported in results.json, from which
 * docs/reliability.md is made. Tests that were not part of this run keep their earlier record.
 */
export default class FaultResultsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    if (process.env['RECORD_FAULTS'] === undefined) return
    const records = new Map(readFaultRecords().map(record => [record.test, record]))
    for (const module of modules) {
      for (const test of module.children.allTests()) {
        const result = test.result()
        const { fault } = test.meta()
        const name = `${module.relativeModuleId} > ${test.fullName}`
        const isFault = module.relativeModuleId.startsWith('test/faults/') || fault !== undefined || records.has(name)
        // What `-t` left out has no reason.
        if (!isFault || (result.state === 'skipped' && result.note === undefined)) continue
        if (result.state === 'passed' && fault !== undefined) records.set(name, { test: name, state: 'passed', ...fault })
        else if (result.state === 'skipped') records.set(name, { test: name, state: 'not-run', reason: result.note! })
        else if (result.state === 'failed') records.set(name, { test: name, state: 'failed' })
      }
    }
    const sorted = [...records.values()].toSorted((a, b) => a.test.localeCompare(b.test))
    writeFileSync(resultsPath, `${JSON.stringify(sorted, null, 2)}\n`)
  }
}

export function readFaultRecords(): FaultRecord[] {
  try {
    return JSON.parse(readFileSync(resultsPath, 'utf8')) as FaultRecord[]
  } catch {
    return []
  }
}
