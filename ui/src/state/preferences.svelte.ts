// What one person likes, kept in the browser and never in a link.

import type { Zone } from '../time/range';

export type Theme = 'system' | 'dark' | 'light';

function read(name: string): string | null {
  try {
    return localStorage.getItem(`lodge.${name}`);
  } catch {
    return null;
  }
}

function write(name: string, value: string): void {
  try {
    localStorage.setItem(`lodge.${name}`, value);
  } catch {
    // Without storage a preference lasts as long as the page.
  }
}

class Preferences {
  zone = $state<Zone>(read('zone') === 'utc' ? 'utc' : 'local');
  wrap = $state(read('wrap') === 'true');
  side_fields = $state(read('side_fields') !== 'false');
  fields_open = $state(read('fields_open') !== 'false');
  theme = $state<Theme>(this.readTheme());

  setZone(zone: Zone): void {
    this.zone = zone;
    write('zone', zone);
  }

  toggle(name: 'wrap' | 'side_fields' | 'fields_open'): void {
    this[name] = !this[name];
    write(name, String(this[name]));
  }

  /** True when the page is dark now, whoever decided it. */
  get dark(): boolean {
    if (this.theme !== 'system') return this.theme === 'dark';
    return matchMedia('(prefers-color-scheme: dark)').matches;
  }

  setTheme(theme: Theme): void {
    this.theme = theme;
    write('theme', theme);
    if (theme === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }

  private readTheme(): Theme {
    const theme = read('theme');
    return theme === 'dark' || theme === 'light' ? theme : 'system';
  }
}

export const preferences = new Preferences();
