/** A long-running part. `run` resolves when `signal` aborts and all that it opened is closed; it rejects on a fault. */
export interface Service {
  readonly name: string
  run(signal: AbortSignal): Promise<void>
}

/**
 * Runs services until `signal` aborts or one of them faults; then stops the others, last started first, and waits for
 * all. Rejects with the first fault.
 */
export async function runAll(services: readonly Service[], signal: AbortSignal): Promise<void> {
  let fault: { error: unknown } | undefined
  const controllers = services.map(() => new AbortController())
  const ended = services.map((service, i) =>
    service.run(controllers[i]!.signal).catch((error: unknown) => { fault ??= { error } }))
  await new Promise<void>(resolve => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
    for (const end of ended) void end.then(resolve)
  })
  for (let i = services.length - 1; i >= 0; i--) {
    controllers[i]!.abort(signal.reason)
    await ended[i]
  }
  if (fault !== undefined) throw fault.error
}
