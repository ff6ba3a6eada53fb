import { HoldfastError } from './errors.ts'

const reasons: Readonly<Record<string, (section: string) => string>> = {
  EADDRINUSE: section => `another process listens there: stop it, or set ${section}.port to another port (0: any free one)`,
  EACCES: section => `this user may not take that port: set ${section}.port to one above 1023`,
  EADDRNOTAVAIL: section => `this machine has no such address: set ${section}.host to one that it has`,
  ENOTFOUND: section => `there is no host of this name: set ${section}.host to an address of this machine`
}

/** `LISTEN_FAILED` for a server whose address is the configuration's `<section>.host` and `<section>.port`. */
export function listenFailure(
  section: string, address: { readonly host: string, readonly port: number }, cause: unknown
): HoldfastError<'LISTEN_FAILED'> {
  const code = (cause as { code?: unknown }).code
  const reason = (typeof code === 'string' ? reasons[code] : undefined)?.(section) ?? `check ${section}.host and ${section}.port`
  return new HoldfastError('LISTEN_FAILED', `${section}: cannot listen on ${address.host}:${address.port}: ${reason}`, { cause })
}
