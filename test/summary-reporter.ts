import { appendFileSync } from 'node:fs'
import { stripVTControlCharacters } from 'node:util'
import type { Reporter, TestModule } from 'vitest/node'

/** The first line of what was thrown, as a person reads it. */
function reasonOf(errors: readonly { readonly message: string }[] | undefined): string {
  return stripVTControlCharacters(errors?.[0]?.message ?? 'no reason given').trim().split('\n', 1)[0]!
}

/**
 * Ends a run with one plain line, `N passed, N failed, N skipped`, and above it each test that failed or was skipped, with
 * its reason. For whoever adds up several runs, the counts go to the file that TEST_COUNTS names, a line a run, and the
 * failures to the file TEST_FAILURES.
 */
export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const counts = { passed: 0, failed: unhandledErrors.length, skipped: 0 }
    const lines: string[] = []
    const failures = unhandledErrors.map(error => `failed: outside any test: ${reasonOf([error as Error])}`)
    for (const module of modules) {
      let failedHere = 0
      for (const test of module.children.allTests()) {
        const result = test.result()
        if (result.state === 'passed') counts.passed++
        else if (result.state === 'failed') {
          failedHere++
          failures.push(`failed: ${module.relativeModuleId} > ${test.fullName}: ${reasonOf(result.errors)}`)
        } else {
          counts.skipped++
          const reason = 'note' in result && result.note !== undefined ? result.note : 'no reason given'
          lines.push(`not run here: ${module.relativeModuleId} > ${test.fullName}: ${reason}`)
        }
      }
      // A file that does not load, or a hook that fails, has no failed test of its own.
      if (failedHere === 0 && module.state() === 'failed') {
        failedHere = 1
        failures.push(`failed: ${module.relativeModuleId}, as a whole: ${reasonOf(module.errors())}`)
      }
      counts.failed += failedHere
    }
    if (modules.length === 0) lines.push('not run here: there are no tests of this kind')
    lines.push(...failures, `${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`)
    process.stdout.write(`\n${lines.join('\n')}\n`)
    const { TEST_COUNTS: countsFile, TEST_FAILURES: failuresFile } = process.env
    if (countsFile !== undefined) appendFileSync(countsFile, `${counts.passed} ${counts.failed} ${counts.skipped}\n`)
    if (failuresFile !== undefined) appendFileSync(failuresFile, failures.map(line => `${line}\n`).join(''))
  }
}
