package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// fields walks the keys of a configuration, which is a pointer to a struct with
// tags as config's.
func fields(c any, f func(key string, field reflect.StructField, v reflect.Value)) {
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		if key := v.Type().Field(i).Tag.Get("key"); key != "" {
			f(key, v.Type().Field(i), v.Field(i))
		}
	}
}

const envPrefix = "MACAROOND"

// fill reads defaults, those of the tags or other ones, then the file, then the
// environment, then flags: a key's flag has its name, with dashes. Unknown keys
// are errors wherever they stand.
func fill(c any, flags *pflag.FlagSet, environ []string, defaults map[string]string) error {
	v := viper.New()
	known := map[string]reflect.StructField{}
	fields(c, func(key string, f reflect.StructField, _ reflect.Value) {
		known[key] = f
		v.SetDefault(key, f.Tag.Get("default"))
	})
	for key, value := range defaults {
		v.SetDefault(key, value)
	}
	if path, _ := flags.GetString("config"); path != "" {
		if err := readFile(v, path, known); err != nil {
			return err
		}
	}
	for _, line := range environ {
		name, value, _ := strings.Cut(line, "=")
		key, ours := strings.CutPrefix(name, envPrefix+"_")
		if !ours {
			continue
		}
		key = strings.ToLower(key)
		if _, ok := known[key]; !ok {
			return usagef("environment variable %s: there is no key %q", name, key)
		}
		v.Set(key, value)
	}
	for key := range known {
		if f := flags.Lookup(strings.ReplaceAll(key, "_", "-")); f != nil && f.Changed {
			v.Set(key, f.Value.String())
		}
	}
	var err error
	fields(c, func(key string, f reflect.StructField, field reflect.Value) {
		if err != nil {
			return
		}
		if e := assign(v, key, field); e != nil {
			err = usagef("%s: %w", key, e)
		}
	})
	return err
}

// readFile reads YAML strictly: no key that is not known, as it is written, for
// viper takes Listen and listen for one and lets either win.
func readFile(v *viper.Viper, path string, known map[string]reflect.StructField) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return usagef("configuration file %s does not exist", path)
	}
	var file map[string]any
	if err == nil {
		err = yaml.Unmarshal(text, &file)
	}
	if err != nil {
		return usagef("configuration file %s: %w", path, err)
	}
	for _, key := range slices.Sorted(maps.Keys(file)) {
		if _, ok := known[key]; !ok {
			return usagef("configuration file %s: there is no key %q (see macaroond config print)", path, key)
		}
		v.Set(key, file[key])
	}
	return nil
}

func assign(v *viper.Viper, key string, field reflect.Value) error {
	raw := v.Get(key)
	switch field.Interface().(type) {
	case string:
		s, ok := raw.(string)
		if !ok {
			return errors.New("not a string")
		}
		field.SetString(s)
	case []string:
		switch list := raw.(type) {
		case string:
			field.Set(reflect.ValueOf(strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })))
		case []any:
			out := []string{}
			for _, e := range list {
				s, ok := e.(string)
				if !ok {
					return errors.New("not a list of strings")
				}
				out = append(out, s)
			}
			field.Set(reflect.ValueOf(out))
		default:
			return errors.New("not a list of strings")
		}
	case time.Duration:
		d, err := time.ParseDuration(fmt.Sprint(raw))
		if err != nil {
			return errors.New("not a duration such as 90s, 10m or 720h")
		}
		field.SetInt(int64(d))
	case bool:
		b, err := strconv.ParseBool(fmt.Sprint(raw))
		if err != nil {
			return errors.New("not true or false")
		}
		field.SetBool(b)
	case int:
		var n int
		if _, err := fmt.Sscanf(fmt.Sprint(raw)+"\n", "%d\n", &n); err != nil {
			return errors.New("not a whole number")
		}
		field.SetInt(int64(n))
	default:
		return fmt.Errorf("no rule for a %s", field.Type())
	}
	return nil
}

func flagBool(flags *pflag.FlagSet, name string) bool {
	value, _ := flags.GetBool(name)
	return value
}

// credentialsVariable names systemd's directory of credentials.
const credentialsVariable = "CREDENTIALS_DIRECTORY"

func variable(environ []string, name string) (value string) {
	for _, line := range environ {
		if v, ok := strings.CutPrefix(line, name+"="); ok {
			value = v
		}
	}
	return value
}
